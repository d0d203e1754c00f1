#ifndef CONCORDAT_TESTS_ADVERSARY_WIRE_TAP_H_
#define CONCORDAT_TESTS_ADVERSARY_WIRE_TAP_H_

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "privacy/secagg/worker_round.h"

namespace concordat::adversary {

/// Everything that honest workers have said, as a coordinator keeps it, and the laws that must hold over all
/// of it together, whatever the coordinator said:
///   - for one step of one attempt a worker says one thing only, byte for byte;
///   - a worker opens one kind of share of a dealer at most;
///   - with the shares that colluders hold, nobody's seed and mask key can both be rebuilt;
///   - masks are handed out once for each attempt.
class WireTap {
 public:
  /// \param worker any name of the sender, the same each time
  void Saw(const std::string& worker, const secagg::WorkerMessage& message) {
    std::visit([&](const auto& m) { Note(worker, m); }, message);
  }
  void TookMasks(const std::string& worker, const AttemptId& id) {
    if (++masks_[{worker, id}] > 1) breaches_.push_back(worker + " handed its masks out twice");
  }
  /// What was broken so far; empty is good.
  /// \param threshold t of every attempt; \param colluding shares of each dealer that the coordinator has
  /// anyway
  std::vector<std::string> Breaches(uint32_t threshold, uint32_t colluding) const {
    std::vector<std::string> out = breaches_;
    for (const auto& [key, said] : said_) {
      if (said.size() > 1)
        out.push_back(fmt::format("{} said {} in {} ways", std::get<0>(key), std::get<2>(key), said.size()));
    }
    for (const auto& [dealer, opened] : opened_) {
      for (const std::string& holder : opened.seed) {
        if (opened.mask_key.contains(holder))
          out.push_back(fmt::format("{} opened both kinds of site {}", holder, int{dealer.second}));
      }
      if (opened.seed.size() + colluding >= threshold && opened.mask_key.size() + colluding >= threshold)
        out.push_back(fmt::format("both secrets of site {} can be rebuilt", int{dealer.second}));
    }
    return out;
  }
  /// Two laws more, for a coordinator that can sign for nobody but `colluder`:
  ///   - who agrees to a set masked under the same transcript as every honest site of it;
  ///   - who opens shares does so for a set to which t sites agreed, at most the colluding ones unheard.
  std::vector<std::string> AgreementBreaches(uint32_t threshold, SiteIndex colluder) const {
    std::vector<std::string> out;
    for (const auto& [set, agreed] : agreed_) {
      for (SiteIndex site : set.sites) {
        if (site != colluder && !masked_.contains({set.id, set.t2, site}))
          out.push_back(fmt::format("agreed to site {}, which masked under another transcript", int{site}));
      }
    }
    for (const Set& set : unmasked_) {
      const auto agreed = agreed_.find(set);
      const size_t count = agreed == agreed_.end() ? 0 : agreed->second.size();
      if (count + 1 < threshold)
        out.push_back(fmt::format("opened for a set to which {} honest sites agreed", count));
    }
    return out;
  }
  /// Messages of one kind that were said, counted without their repeats.
  size_t Count(std::string_view domain) const {
    size_t n = 0;
    for (const auto& [key, said] : said_) n += std::get<2>(key) == domain ? said.size() : 0;
    return n;
  }
  /// Answers that differ from each other were seen for this step.
  bool Said(const std::string& worker, const AttemptId& id, std::string_view domain) const {
    return said_.contains({worker, id, std::string(domain)});
  }

 private:
  struct Opened {
    std::set<std::string> seed, mask_key;
  };

  template <typename T>
  void Note(const std::string& worker, const secagg::Signed<T>& m) {
    std::string bytes(AsText(Canonical(m.body)));
    bytes.append(AsText(m.signature));
    if constexpr (std::is_same_v<T, secagg::Shares>) {
      for (const auto& c : m.body.ciphertexts) bytes.append(AsText(c));
    }
    if constexpr (std::is_same_v<T, secagg::Unmask>) {
      for (const auto& s : m.body.seed_shares) {
        bytes.append(AsText(s.share.view()));
        opened_[{m.body.id, s.dealer}].seed.insert(worker);
      }
      for (const auto& s : m.body.mask_key_shares) {
        bytes.append(AsText(s.share.view()));
        opened_[{m.body.id, s.dealer}].mask_key.insert(worker);
      }
    }
    if constexpr (std::is_same_v<T, secagg::InputHeader>) masked_.insert({m.body.id, m.body.t2, m.body.site});
    if constexpr (std::is_same_v<T, secagg::Agreement>)
      agreed_[{m.body.id, m.body.t2, m.body.survivors}].insert(worker);
    if constexpr (std::is_same_v<T, secagg::Unmask>) {
      Set set{m.body.id, m.body.t2, {}};
      for (const auto& s : m.body.seed_shares) set.sites.push_back(s.dealer);
      unmasked_.push_back(std::move(set));
    }
    said_[{worker, m.body.id, std::string(T::kDomain)}].insert(std::move(bytes));
  }

  struct Set {
    AttemptId id;
    Digest t2;
    std::vector<SiteIndex> sites;
    auto operator<=>(const Set&) const = default;
  };
  std::map<std::tuple<std::string, AttemptId, std::string>, std::set<std::string>> said_;
  std::map<std::pair<AttemptId, SiteIndex>, Opened> opened_;
  std::map<std::pair<std::string, AttemptId>, int> masks_;
  std::set<std::tuple<AttemptId, Digest, SiteIndex>> masked_;
  std::map<Set, std::set<std::string>> agreed_;
  std::vector<Set> unmasked_;
  std::vector<std::string> breaches_;
};

}  // namespace concordat::adversary

#endif  // CONCORDAT_TESTS_ADVERSARY_WIRE_TAP_H_
