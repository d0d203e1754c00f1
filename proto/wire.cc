#include "proto/wire.h"

#include <algorithm>

#include "privacy/crypto/x509.h"

namespace concordat::wire {
namespace {

using secagg::Signed;

template <size_t N>
Status CopyFixed(const std::string& in, std::array<uint8_t, N>* out, std::string_view field) {
  if (in.size() != N) return InvalidArgument("{}: expected {} bytes, got {}", field, N, in.size());
  std::memcpy(out->data(), in.data(), N);
  return OkStatus();
}

template <size_t N>
std::string TextOf(const std::array<uint8_t, N>& in) {
  return std::string(reinterpret_cast<const char*>(in.data()), N);
}

Status SiteFrom(uint32_t in, SiteIndex* out, std::string_view field) {
  if (in < 1 || in > kMaxSites)
    return InvalidArgument("{}: expected a site from 1 to {}, got {}", field, kMaxSites, in);
  *out = static_cast<SiteIndex>(in);
  return OkStatus();
}

Status CountWithin(int count, size_t max, std::string_view field) {
  if (static_cast<size_t>(count) > max)
    return InvalidArgument("{}: expected at most {}, got {}", field, max, count);
  return OkStatus();
}

/// A list that goes with another: one for each of its entries, or none at all.
Status NoneOrEach(int count, int others, std::string_view field) {
  if (count == 0 || count == others) return OkStatus();
  return InvalidArgument("{}: expected none or {}, got {}", field, others, count);
}

/// Lists go by site, upward, without repeats.
Status Above(SiteIndex previous, SiteIndex site, std::string_view field) {
  if (site <= previous)
    return InvalidArgument("{}: expected sites in ascending order without repeats", field);
  return OkStatus();
}

Status SecretFrom(const std::string& in, Secret32* out, std::string_view field) {
  auto secret = Secret32::From(AsBytes(in));
  if (!secret.ok()) return InvalidArgument("{}: expected 32 bytes, got {}", field, in.size());
  *out = std::move(secret).value();
  return OkStatus();
}

Status DigestInto(const std::string& in, Digest* out, std::string_view field) {
  return CopyFixed(in, &out->bytes, field);
}

template <typename P>
Status IdInto(const P& in, AttemptId* out) {
  ASSIGN_OR_RETURN(*out, FromProto(in.id()));
  return OkStatus();
}

template <typename P, typename T>
Status SignatureInto(const P& in, Signed<T>* out) {
  return CopyFixed(in.signature(), &out->signature, "signature");
}

template <typename T, typename P>
void SignatureOut(const Signed<T>& in, P* out) {
  out->set_signature(TextOf(in.signature));
}

template <typename Sites>
Status SurvivorsInto(const Sites& in, std::vector<SiteIndex>* out) {
  RETURN_IF_ERROR(CountWithin(in.size(), kMaxSites, "survivors"));
  SiteIndex previous = 0;
  for (uint32_t v : in) {
    SiteIndex site = 0;
    RETURN_IF_ERROR(SiteFrom(v, &site, "survivors"));
    RETURN_IF_ERROR(Above(previous, site, "survivors"));
    previous = site;
    out->push_back(site);
  }
  return OkStatus();
}

Status CommitmentsInto(const google::protobuf::RepeatedPtrField<pb::ShareCommitment>& in,
                       std::vector<secagg::ShareCommitment>* out) {
  RETURN_IF_ERROR(CountWithin(in.size(), kMaxSites, "commitments"));
  SiteIndex previous = 0;
  for (const auto& c : in) {
    secagg::ShareCommitment& to = out->emplace_back();
    RETURN_IF_ERROR(SiteFrom(c.holder(), &to.holder, "commitments.holder"));
    RETURN_IF_ERROR(Above(previous, to.holder, "commitments.holder"));
    previous = to.holder;
    RETURN_IF_ERROR(DigestInto(c.mask_key_share(), &to.mask_key_share, "commitments.mask_key_share"));
    RETURN_IF_ERROR(DigestInto(c.seed_share(), &to.seed_share, "commitments.seed_share"));
  }
  return OkStatus();
}

void CommitmentsOut(const std::vector<secagg::ShareCommitment>& in,
                    google::protobuf::RepeatedPtrField<pb::ShareCommitment>* out) {
  for (const auto& c : in) {
    auto* to = out->Add();
    to->set_holder(c.holder);
    to->set_mask_key_share(BytesOf(c.mask_key_share));
    to->set_seed_share(BytesOf(c.seed_share));
  }
}

Status OpenedInto(const google::protobuf::RepeatedPtrField<pb::OpenedShare>& in,
                  std::vector<secagg::OpenedShare>* out, std::string_view field) {
  RETURN_IF_ERROR(CountWithin(in.size(), kMaxSites, field));
  SiteIndex previous = 0;
  for (const auto& s : in) {
    secagg::OpenedShare& to = out->emplace_back();
    RETURN_IF_ERROR(SiteFrom(s.dealer(), &to.dealer, field));
    RETURN_IF_ERROR(Above(previous, to.dealer, field));
    previous = to.dealer;
    RETURN_IF_ERROR(SecretFrom(s.share(), &to.share, field));
    RETURN_IF_ERROR(SecretFrom(s.salt(), &to.salt, field));
  }
  return OkStatus();
}

void OpenedOut(const std::vector<secagg::OpenedShare>& in,
               google::protobuf::RepeatedPtrField<pb::OpenedShare>* out) {
  for (const auto& s : in) {
    auto* to = out->Add();
    to->set_dealer(s.dealer);
    to->set_share(ToStringBytes(s.share.view()));
    to->set_salt(ToStringBytes(s.salt.view()));
  }
}

}  // namespace

Digest DigestOrZero(const std::string& bytes) {
  Digest digest;
  if (bytes.size() == digest.bytes.size()) std::memcpy(digest.bytes.data(), bytes.data(), bytes.size());
  return digest;
}

StatusOr<Digest> DigestFrom(const std::string& bytes, std::string_view field) {
  Digest digest;
  RETURN_IF_ERROR(DigestInto(bytes, &digest, field));
  return digest;
}

std::string BytesOf(const Digest& digest) { return TextOf(digest.bytes); }

void ToProto(const AttemptId& id, pb::AttemptId* out) {
  out->set_job(BytesOf(id.job));
  out->set_round(id.round);
  out->set_attempt(id.attempt);
}

StatusOr<AttemptId> FromProto(const pb::AttemptId& in) {
  AttemptId id;
  RETURN_IF_ERROR(DigestInto(in.job(), &id.job, "id.job"));
  id.round = in.round();
  id.attempt = in.attempt();
  return id;
}

void ToProto(const Signed<secagg::Offer>& in, pb::Offer* out) {
  const secagg::Offer& o = in.body;
  ToProto(o.id, out->mutable_id());
  out->set_charter(BytesOf(o.charter));
  out->set_base_model(BytesOf(o.base_model));
  out->set_adapter(BytesOf(o.adapter));
  out->set_elements(o.elements);
  out->set_threshold(o.threshold);
  out->set_min_survivors(o.min_survivors);
  out->set_assumed_colluding(o.assumed_colluding);
  out->set_attempts_allowed(o.attempts_allowed);
  auto* d = out->mutable_deadlines();
  d->set_advert_ms(o.deadlines.advert_ms);
  d->set_shares_ms(o.deadlines.shares_ms);
  d->set_input_ms(o.deadlines.input_ms);
  d->set_agreement_ms(o.deadlines.agreement_ms);
  d->set_unmask_ms(o.deadlines.unmask_ms);
  for (const auto& entry : o.roster) {
    auto* to = out->add_roster();
    to->set_worker(entry.worker.ToString());
    to->set_key_hash(BytesOf(entry.key_hash));
  }
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Offer>> FromProto(const pb::Offer& in) {
  Signed<secagg::Offer> out;
  secagg::Offer& o = out.body;
  RETURN_IF_ERROR(IdInto(in, &o.id));
  RETURN_IF_ERROR(DigestInto(in.charter(), &o.charter, "charter"));
  RETURN_IF_ERROR(DigestInto(in.base_model(), &o.base_model, "base_model"));
  RETURN_IF_ERROR(DigestInto(in.adapter(), &o.adapter, "adapter"));
  o.elements = in.elements();
  o.threshold = in.threshold();
  o.min_survivors = in.min_survivors();
  o.assumed_colluding = in.assumed_colluding();
  o.attempts_allowed = in.attempts_allowed();
  const auto& d = in.deadlines();
  o.deadlines = {d.advert_ms(), d.shares_ms(), d.input_ms(), d.agreement_ms(), d.unmask_ms()};
  RETURN_IF_ERROR(CountWithin(in.roster_size(), kMaxSites, "roster"));
  for (const auto& entry : in.roster()) {
    secagg::RosterEntry& to = o.roster.emplace_back();
    ASSIGN_OR_RETURN(to.worker, SpiffeId::Parse(entry.worker()));
    RETURN_IF_ERROR(DigestInto(entry.key_hash(), &to.key_hash, "roster.key_hash"));
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Advert>& in, pb::Advert* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_site(in.body.site);
  out->set_channel_key(TextOf(in.body.channel_key));
  out->set_mask_key(TextOf(in.body.mask_key));
  out->set_seed_hash(BytesOf(in.body.seed_hash));
  out->set_t0(BytesOf(in.body.t0));
  out->set_ledger_head(BytesOf(in.body.ledger_head));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Advert>> FromProto(const pb::Advert& in) {
  Signed<secagg::Advert> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.site(), &out.body.site, "site"));
  RETURN_IF_ERROR(CopyFixed(in.channel_key(), &out.body.channel_key, "channel_key"));
  RETURN_IF_ERROR(CopyFixed(in.mask_key(), &out.body.mask_key, "mask_key"));
  RETURN_IF_ERROR(DigestInto(in.seed_hash(), &out.body.seed_hash, "seed_hash"));
  RETURN_IF_ERROR(DigestInto(in.t0(), &out.body.t0, "t0"));
  RETURN_IF_ERROR(DigestInto(in.ledger_head(), &out.body.ledger_head, "ledger_head"));
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Keys>& in, pb::Keys* out) {
  ToProto(in.body.id, out->mutable_id());
  for (const auto& advert : in.body.adverts) ToProto(advert, out->add_adverts());
  for (const auto& chain : in.body.chains) out->add_chains(chain);
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Keys>> FromProto(const pb::Keys& in) {
  Signed<secagg::Keys> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(CountWithin(in.adverts_size(), kMaxSites, "adverts"));
  if (in.chains_size() != in.adverts_size()) {
    return InvalidArgument("chains: expected one for each of {} adverts, got {}", in.adverts_size(),
                           in.chains_size());
  }
  SiteIndex previous = 0;
  for (const auto& advert : in.adverts()) {
    ASSIGN_OR_RETURN(Signed<secagg::Advert> one, FromProto(advert));
    RETURN_IF_ERROR(Above(previous, one.body.site, "adverts"));
    previous = one.body.site;
    out.body.adverts.push_back(std::move(one));
  }
  for (const auto& chain : in.chains()) {
    if (chain.size() > crypto::kMaxChainBytes) {
      return InvalidArgument("chains: expected at most {} bytes, got {}", crypto::kMaxChainBytes,
                             chain.size());
    }
    out.body.chains.push_back(chain);
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Shares>& in, pb::Shares* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_dealer(in.body.dealer);
  out->set_t1(BytesOf(in.body.t1));
  CommitmentsOut(in.body.commitments, out->mutable_commitments());
  for (const auto& c : in.body.ciphertexts) out->add_ciphertexts(TextOf(c));
  for (const auto& s : in.body.pair_seals) out->add_pair_seals(TextOf(s));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Shares>> FromProto(const pb::Shares& in) {
  Signed<secagg::Shares> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.dealer(), &out.body.dealer, "dealer"));
  RETURN_IF_ERROR(DigestInto(in.t1(), &out.body.t1, "t1"));
  RETURN_IF_ERROR(CommitmentsInto(in.commitments(), &out.body.commitments));
  if (in.ciphertexts_size() != in.commitments_size()) {
    return InvalidArgument("ciphertexts: expected one for each of {} commitments, got {}",
                           in.commitments_size(), in.ciphertexts_size());
  }
  for (const auto& c : in.ciphertexts()) {
    RETURN_IF_ERROR(CopyFixed(c, &out.body.ciphertexts.emplace_back(), "ciphertexts"));
  }
  RETURN_IF_ERROR(NoneOrEach(in.pair_seals_size(), in.commitments_size(), "pair_seals"));
  for (const auto& s : in.pair_seals()) {
    RETURN_IF_ERROR(CopyFixed(s, &out.body.pair_seals.emplace_back(), "pair_seals"));
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Delivery>& in, pb::Delivery* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_to(in.body.to);
  out->set_t1(BytesOf(in.body.t1));
  for (const auto& row : in.body.rows) {
    auto* to = out->add_rows();
    to->set_dealer(row.dealer);
    CommitmentsOut(*row.commitments, to->mutable_commitments());
    to->set_signature(TextOf(row.signature));
    to->set_ciphertext(TextOf(row.ciphertext));
  }
  for (const Digest& tag : in.body.pair_tags) out->add_pair_tags(BytesOf(tag));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Delivery>> FromProto(const pb::Delivery& in) {
  Signed<secagg::Delivery> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.to(), &out.body.to, "to"));
  RETURN_IF_ERROR(DigestInto(in.t1(), &out.body.t1, "t1"));
  RETURN_IF_ERROR(CountWithin(in.rows_size(), kMaxSites, "rows"));
  SiteIndex previous = 0;
  for (const auto& row : in.rows()) {
    secagg::Delivery::Row& to = out.body.rows.emplace_back();
    RETURN_IF_ERROR(SiteFrom(row.dealer(), &to.dealer, "rows.dealer"));
    RETURN_IF_ERROR(Above(previous, to.dealer, "rows.dealer"));
    previous = to.dealer;
    RETURN_IF_ERROR(CommitmentsInto(row.commitments(), &to.commitments.Change()));
    RETURN_IF_ERROR(CopyFixed(row.signature(), &to.signature, "rows.signature"));
    RETURN_IF_ERROR(CopyFixed(row.ciphertext(), &to.ciphertext, "rows.ciphertext"));
  }
  RETURN_IF_ERROR(NoneOrEach(in.pair_tags_size(), in.rows_size(), "pair_tags"));
  for (const auto& tag : in.pair_tags()) {
    RETURN_IF_ERROR(DigestInto(tag, &out.body.pair_tags.emplace_back(), "pair_tags"));
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Complaint>& in, pb::Complaint* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_site(in.body.site);
  out->set_accused(in.body.accused);
  out->set_t1(BytesOf(in.body.t1));
  out->set_code(static_cast<uint32_t>(in.body.code));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Complaint>> FromProto(const pb::Complaint& in) {
  Signed<secagg::Complaint> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.site(), &out.body.site, "site"));
  RETURN_IF_ERROR(SiteFrom(in.accused(), &out.body.accused, "accused"));
  RETURN_IF_ERROR(DigestInto(in.t1(), &out.body.t1, "t1"));
  if (in.code() < 1 || in.code() > 4) return InvalidArgument("code: expected 1 to 4, got {}", in.code());
  out.body.code = static_cast<secagg::Complaint::Code>(in.code());
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::InputHeader>& in, pb::InputHeader* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_site(in.body.site);
  out->set_t2(BytesOf(in.body.t2));
  out->set_elements(in.body.elements);
  out->set_sha256(BytesOf(in.body.sha256));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::InputHeader>> FromProto(const pb::InputHeader& in) {
  Signed<secagg::InputHeader> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.site(), &out.body.site, "site"));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  out.body.elements = in.elements();
  RETURN_IF_ERROR(DigestInto(in.sha256(), &out.body.sha256, "sha256"));
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Survivors>& in, pb::Survivors* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_t2(BytesOf(in.body.t2));
  for (const auto& header : in.body.headers) ToProto(header, out->add_headers());
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Survivors>> FromProto(const pb::Survivors& in) {
  Signed<secagg::Survivors> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  RETURN_IF_ERROR(CountWithin(in.headers_size(), kMaxSites, "headers"));
  SiteIndex previous = 0;
  for (const auto& header : in.headers()) {
    ASSIGN_OR_RETURN(Signed<secagg::InputHeader> one, FromProto(header));
    RETURN_IF_ERROR(Above(previous, one.body.site, "headers"));
    previous = one.body.site;
    out.body.headers.push_back(std::move(one));
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Agreement>& in, pb::Agreement* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_site(in.body.site);
  out->set_t2(BytesOf(in.body.t2));
  for (SiteIndex site : in.body.survivors) out->add_survivors(site);
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Agreement>> FromProto(const pb::Agreement& in) {
  Signed<secagg::Agreement> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.site(), &out.body.site, "site"));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  RETURN_IF_ERROR(SurvivorsInto(in.survivors(), &out.body.survivors));
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::AgreementBundle>& in, pb::AgreementBundle* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_t2(BytesOf(in.body.t2));
  for (SiteIndex site : in.body.survivors) out->add_survivors(site);
  for (const auto& [site, signature] : in.body.signatures) {
    auto* to = out->add_signatures();
    to->set_site(site);
    to->set_signature(TextOf(signature));
  }
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::AgreementBundle>> FromProto(const pb::AgreementBundle& in) {
  Signed<secagg::AgreementBundle> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  RETURN_IF_ERROR(SurvivorsInto(in.survivors(), &out.body.survivors));
  RETURN_IF_ERROR(CountWithin(in.signatures_size(), kMaxSites, "signatures"));
  SiteIndex previous = 0;
  for (const auto& s : in.signatures()) {
    auto& [site, signature] = out.body.signatures.emplace_back();
    RETURN_IF_ERROR(SiteFrom(s.site(), &site, "signatures.site"));
    RETURN_IF_ERROR(Above(previous, site, "signatures.site"));
    previous = site;
    RETURN_IF_ERROR(CopyFixed(s.signature(), &signature, "signatures.signature"));
  }
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Unmask>& in, pb::Unmask* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_site(in.body.site);
  out->set_t2(BytesOf(in.body.t2));
  OpenedOut(in.body.seed_shares, out->mutable_seed_shares());
  OpenedOut(in.body.mask_key_shares, out->mutable_mask_key_shares());
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Unmask>> FromProto(const pb::Unmask& in) {
  Signed<secagg::Unmask> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(SiteFrom(in.site(), &out.body.site, "site"));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  RETURN_IF_ERROR(OpenedInto(in.seed_shares(), &out.body.seed_shares, "seed_shares"));
  RETURN_IF_ERROR(OpenedInto(in.mask_key_shares(), &out.body.mask_key_shares, "mask_key_shares"));
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

void ToProto(const Signed<secagg::Result>& in, pb::Result* out) {
  ToProto(in.body.id, out->mutable_id());
  out->set_t2(BytesOf(in.body.t2));
  for (SiteIndex site : in.body.survivors) out->add_survivors(site);
  out->set_sum_sha256(BytesOf(in.body.sum_sha256));
  out->set_new_adapter(BytesOf(in.body.new_adapter));
  SignatureOut(in, out);
}

StatusOr<Signed<secagg::Result>> FromProto(const pb::Result& in) {
  Signed<secagg::Result> out;
  RETURN_IF_ERROR(IdInto(in, &out.body.id));
  RETURN_IF_ERROR(DigestInto(in.t2(), &out.body.t2, "t2"));
  RETURN_IF_ERROR(SurvivorsInto(in.survivors(), &out.body.survivors));
  RETURN_IF_ERROR(DigestInto(in.sum_sha256(), &out.body.sum_sha256, "sum_sha256"));
  RETURN_IF_ERROR(DigestInto(in.new_adapter(), &out.body.new_adapter, "new_adapter"));
  RETURN_IF_ERROR(SignatureInto(in, &out));
  return out;
}

}  // namespace concordat::wire
