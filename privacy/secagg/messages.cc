#include "privacy/secagg/messages.h"

#include "common/canonical_attempt.h"
#include "privacy/crypto/hash.h"
#include "privacy/secagg/commitment.h"

namespace concordat::secagg {
namespace {

using concordat::Put;

void Put(CanonicalWriter& w, const std::vector<ShareCommitment>& commitments) {
  w.Count(commitments.size());
  for (const ShareCommitment& c : commitments) {
    w.U8(c.holder);
    w.Put(c.mask_key_share);
    w.Put(c.seed_share);
  }
}

void Put(CanonicalWriter& w, const std::vector<SiteIndex>& sites) {
  w.Count(sites.size());
  for (SiteIndex site : sites) w.U8(site);
}

// What stands for an opened share in the signed body: its commitment, which binds the sender to the share and
// keeps the share out of the bytes that get hashed, copied and kept as evidence.
void Put(CanonicalWriter& w, ShareKind kind, SiteIndex holder, const std::vector<OpenedShare>& opened) {
  w.Count(opened.size());
  for (const OpenedShare& s : opened) {
    w.U8(s.dealer);
    w.Put(CommitShare(kind, s.dealer, holder, s.share, s.salt));
  }
}

}  // namespace

Bytes Canonical(const Offer& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.Put(m.charter);
  w.Put(m.base_model);
  w.Put(m.adapter);
  w.U64(m.elements);
  w.U32(m.threshold);
  w.U32(m.min_survivors);
  w.U32(m.assumed_colluding);
  w.U32(m.attempts_allowed);
  w.U32(m.deadlines.advert_ms);
  w.U32(m.deadlines.shares_ms);
  w.U32(m.deadlines.input_ms);
  w.U32(m.deadlines.agreement_ms);
  w.U32(m.deadlines.unmask_ms);
  w.Count(m.roster.size());
  for (const RosterEntry& entry : m.roster) {
    w.Text(entry.worker.ToString());
    w.Put(entry.key_hash);
  }
  return w.Take();
}

Bytes Canonical(const Advert& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.site);
  w.Raw(m.channel_key);
  w.Raw(m.mask_key);
  w.Put(m.seed_hash);
  w.Put(m.t0);
  w.Put(m.ledger_head);
  return w.Take();
}

Bytes Canonical(const Keys& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.Count(m.adverts.size());
  for (const Signed<Advert>& advert : m.adverts) {
    w.Blob(Canonical(advert.body));
    w.Raw(advert.signature);
  }
  w.Count(m.chains.size());
  for (const std::string& chain : m.chains) w.Text(chain);
  return w.Take();
}

Bytes Canonical(const Shares& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.dealer);
  w.Put(m.t1);
  Put(w, m.commitments);
  return w.Take();
}

Bytes Canonical(const Delivery& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.to);
  w.Put(m.t1);
  w.Count(m.rows.size());
  for (const Delivery::Row& row : m.rows) {
    w.U8(row.dealer);
    Put(w, *row.commitments);
    w.Raw(row.signature);
    w.Raw(row.ciphertext);
  }
  if (m.pair_tags.empty()) return w.Take();  // as it was before there were pairwise keys
  w.Count(m.pair_tags.size());
  for (const Digest& tag : m.pair_tags) w.Put(tag);
  return w.Take();
}

Bytes Canonical(const Complaint& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.site);
  w.U8(m.accused);
  w.Put(m.t1);
  w.U8(static_cast<uint8_t>(m.code));
  return w.Take();
}

Bytes Canonical(const InputHeader& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.site);
  w.Put(m.t2);
  w.U64(m.elements);
  w.Put(m.sha256);
  return w.Take();
}

Bytes Canonical(const Survivors& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.Put(m.t2);
  w.Count(m.headers.size());
  for (const Signed<InputHeader>& header : m.headers) {
    w.Blob(Canonical(header.body));
    w.Raw(header.signature);
  }
  return w.Take();
}

Bytes Canonical(const Agreement& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.site);
  w.Put(m.t2);
  Put(w, m.survivors);
  return w.Take();
}

Bytes Canonical(const AgreementBundle& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.Put(m.t2);
  Put(w, m.survivors);
  w.Count(m.signatures.size());
  for (const auto& [site, signature] : m.signatures) {
    w.U8(site);
    w.Raw(signature);
  }
  return w.Take();
}

Bytes Canonical(const Unmask& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.U8(m.site);
  w.Put(m.t2);
  Put(w, ShareKind::kSeed, m.site, m.seed_shares);
  Put(w, ShareKind::kMaskKey, m.site, m.mask_key_shares);
  return w.Take();
}

Bytes Canonical(const Result& m) {
  CanonicalWriter w;
  Put(w, m.id);
  w.Put(m.t2);
  Put(w, m.survivors);
  w.Put(m.sum_sha256);
  w.Put(m.new_adapter);
  return w.Take();
}

Digest TranscriptT0(const Offer& offer) { return crypto::TaggedHash("concordat/v1/t0", Canonical(offer)); }

Digest TranscriptT1(const Digest& t0, const std::vector<Signed<Advert>>& sorted_adverts) {
  CanonicalWriter w;
  w.Put(t0);
  w.Count(sorted_adverts.size());
  for (const Signed<Advert>& advert : sorted_adverts) w.Blob(Canonical(advert.body));
  return crypto::TaggedHash("concordat/v1/t1", w.bytes());
}

Digest TranscriptT2(const Digest& t1,
                    const std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>>& sorted_dealers) {
  CanonicalWriter w;
  w.Put(t1);
  w.Count(sorted_dealers.size());
  for (const auto& [dealer, commitments] : sorted_dealers) {
    w.U8(dealer);
    Put(w, commitments);
  }
  return crypto::TaggedHash("concordat/v1/t2", w.bytes());
}

}  // namespace concordat::secagg
