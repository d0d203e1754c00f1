#ifndef CONCORDAT_TESTS_FUZZ_EDITS_H_
#define CONCORDAT_TESTS_FUZZ_EDITS_H_

#include <array>
#include <vector>

#include "tests/fuzz/choices.h"
#include "tests/unit/privacy/secagg/harness.h"

// One chosen change of a message, by somebody who holds every site's key but the target's: a change of what a
// site signs is signed again when the input says so.
namespace concordat::fuzz {

using namespace secagg;  // NOLINT: the protocol's messages
using secagg::testing::World;

/// Who may sign: all sites of `world` but `target` (0: all).
class Editor {
 public:
  Editor(const World& world, SiteIndex target, Choices& c) : world_(world), target_(target), c_(c) {}

  bool Holds(SiteIndex site) const { return site >= 1 && site <= world_.n() && site != target_; }
  const crypto::SigningKey& KeyOf(SiteIndex site) const { return world_.sites[site - 1u].key; }
  /// Signs for `site` when the input says so and the key is ours.
  template <typename T>
  void MaybeSign(SiteIndex site, Signed<T>& message) {
    if (c_.Below(2) == 0 && Holds(site)) message = Sign(KeyOf(site), std::move(message.body));
  }

  void Edit(Offer& m) {
    const std::array<Digest*, 3> digests{&m.charter, &m.base_model, &m.adapter};
    const std::array<uint32_t*, 4> numbers{&m.threshold, &m.min_survivors, &m.assumed_colluding,
                                           &m.attempts_allowed};
    switch (c_.Below(7)) {
      case 0:
        return FlipIn(c_, m.id);
      case 1:
        return FlipIn(c_, *digests[c_.Below(digests.size())]);
      case 2:
        m.elements ^= uint64_t{1} << c_.Below(64);
        return;
      case 3:
        return FlipIn(c_, *numbers[c_.Below(numbers.size())]);
      case 4:
        return FlipIn(c_, m.deadlines);
      case 5:
        return EditList(c_, m.roster);
      default:
        if (!m.roster.empty()) FlipIn(c_, m.roster[c_.Below(m.roster.size())].key_hash);
    }
  }
  void Edit(Advert& m) {
    if (c_.Below(4) == 0) {
      m.mask_key = m.channel_key;
    } else {
      FlipIn(c_, m);
    }
  }
  void Edit(Keys& m) {
    const size_t what = c_.Below(4);
    if (what == 0) return EditList(c_, m.adverts);
    if (what == 1) return EditList(c_, m.chains);
    if (m.adverts.empty() || m.chains.empty()) return;
    if (what == 2) {  // a site less
      m.adverts.pop_back();
      m.chains.pop_back();
      return;
    }
    Signed<Advert>& advert = m.adverts[c_.Below(m.adverts.size())];
    Edit(advert.body);
    MaybeSign(advert.body.site, advert);
  }
  void Edit(std::vector<ShareCommitment>& list) {
    if (c_.Below(2) == 0) return EditList(c_, list);
    if (!list.empty()) FlipIn(c_, list[c_.Below(list.size())]);
  }
  /// Of seals or tags, also where the job has none.
  template <typename T>
  void EditPairs(std::vector<T>& list) {
    const size_t what = c_.Below(4);
    if (what == 0) return list.clear();
    if (what == 1) return EditList(c_, list);
    if (what == 2 || list.empty()) return void(list.emplace_back());
    FlipIn(c_, list[c_.Below(list.size())]);
  }
  void Edit(Shares& m) {
    if (TakesPairs()) return EditPairs(m.pair_seals);
    switch (c_.Below(5)) {
      case 0:
        return Edit(m.commitments);
      case 1:
        return EditList(c_, m.ciphertexts);
      case 2:
        if (!m.ciphertexts.empty()) FlipIn(c_, m.ciphertexts[c_.Below(m.ciphertexts.size())]);
        return;
      case 3:
        return FlipIn(c_, m.t1);
      default:
        m.dealer = c_.Byte();
    }
  }
  void Edit(Delivery& m) {
    if (TakesPairs()) return EditPairs(m.pair_tags);
    const size_t what = c_.Below(6);
    if (what == 0) return EditList(c_, m.rows);
    if (what == 1) return FlipIn(c_, m.t1);
    if (what == 2) {
      m.to = c_.Byte();
      return;
    }
    if (m.rows.empty()) return;
    Delivery::Row& row = m.rows[c_.Below(m.rows.size())];
    if (what == 3) return FlipIn(c_, row.ciphertext);
    if (what == 4) row.dealer = c_.Byte();
    if (what == 5) Edit(row.commitments.Change());
    Signed<Shares> dealt{{m.id, row.dealer, m.t1, *row.commitments, {}}, row.signature};
    MaybeSign(row.dealer, dealt);
    row.signature = dealt.signature;
  }
  void Edit(Complaint& m) { FlipIn(c_, m); }
  void Edit(InputHeader& m) { FlipIn(c_, m); }
  void Edit(Survivors& m) {
    const size_t what = c_.Below(3);
    if (what == 0) return EditList(c_, m.headers);
    if (what == 1 || m.headers.empty()) return FlipIn(c_, m.t2);
    Signed<InputHeader>& header = m.headers[c_.Below(m.headers.size())];
    Edit(header.body);
    MaybeSign(header.body.site, header);
  }
  void Edit(std::vector<SiteIndex>& sites) {
    const size_t what = c_.Below(3);
    if (what == 0) return EditList(c_, sites);
    if (what == 1) return sites.push_back(c_.Byte());
    if (!sites.empty()) sites[c_.Below(sites.size())] = c_.Byte();
  }
  void Edit(Agreement& m) {
    const size_t what = c_.Below(3);
    if (what == 0) return Edit(m.survivors);
    if (what == 1) return FlipIn(c_, m.t2);
    m.site = c_.Byte();
  }
  void Edit(AgreementBundle& m) {
    const size_t what = c_.Below(4);
    if (what == 0) return EditList(c_, m.signatures);
    if (what == 1) return FlipIn(c_, m.t2);
    if (what == 2) {
      if (!m.signatures.empty()) FlipIn(c_, m.signatures[c_.Below(m.signatures.size())].second);
      return;
    }
    Edit(m.survivors);  // and as if all of them had agreed to it
    m.signatures.clear();
    for (const SiteIndex site : m.survivors) {
      if (Holds(site))
        m.signatures.emplace_back(site,
                                  Sign(KeyOf(site), Agreement{m.id, site, m.t2, m.survivors}).signature);
    }
  }
  void Edit(Unmask& m) {
    auto& list = c_.Below(2) == 0 ? m.seed_shares : m.mask_key_shares;
    switch (c_.Below(5)) {
      case 0:
        return EditList(c_, list);
      case 1:
        return std::swap(m.seed_shares, m.mask_key_shares);
      case 2:
        return FlipIn(c_, m.t2);
      case 3:
        m.site = c_.Byte();
        return;
      default:
        if (list.empty()) return;
        OpenedShare& share = list[c_.Below(list.size())];
        if (c_.Below(2) == 0) {
          share.dealer = c_.Byte();
        } else {
          Flip(c_, share.share.mutable_view());
        }
    }
  }
  void Edit(Result& m) {
    const size_t what = c_.Below(4);
    if (what == 0) return Edit(m.survivors);
    if (what == 1) return FlipIn(c_, m.t2);
    FlipIn(c_, what == 2 ? m.sum_sha256 : m.new_adapter);
  }

 private:
  /// Bytes from 250 on are the choice of what pairwise keys leave: so the other choices keep their bytes.
  bool TakesPairs() {
    if (c_.Peek() < 250) return false;
    (void)c_.Byte();
    return true;
  }

  const World& world_;
  SiteIndex target_;
  Choices& c_;
};

}  // namespace concordat::fuzz

#endif  // CONCORDAT_TESTS_FUZZ_EDITS_H_
