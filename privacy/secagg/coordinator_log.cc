#include "privacy/secagg/coordinator_log.h"

#include <algorithm>

#include "common/civil_range.h"

namespace concordat::secagg {
namespace {

using enum CoordinatorPhase;

constexpr uint8_t kVersion = 1;
constexpr size_t kMaxChainBytes = 64 * 1024;
constexpr size_t kMaxTextBytes = 1024;

// ---- Bodies are written by Canonical(); here is how they are read.

AttemptId ReadId(CanonicalReader& r) {
  AttemptId id;
  id.job = r.Hash();
  id.round = r.U32();
  id.attempt = r.U32();
  return id;
}

template <size_t N>
void ReadArray(CanonicalReader& r, std::array<uint8_t, N>& out) {
  const ByteView v = r.Raw(N);
  if (v.size() == N) std::ranges::copy(v, out.begin());
}

void Read(CanonicalReader& r, Offer& m) {
  m.id = ReadId(r);
  for (Digest* d : {&m.charter, &m.base_model, &m.adapter}) *d = r.Hash();
  m.elements = r.U64();
  for (uint32_t* v :
       {&m.threshold, &m.min_survivors, &m.assumed_colluding, &m.attempts_allowed, &m.deadlines.advert_ms,
        &m.deadlines.shares_ms, &m.deadlines.input_ms, &m.deadlines.agreement_ms, &m.deadlines.unmask_ms}) {
    *v = r.U32();
  }
  const size_t n = r.Count(kMaxSites);
  for (size_t i = 0; i < n && r.status().ok(); ++i) {
    auto worker = SpiffeId::Parse(r.Text(kMaxTextBytes));
    if (!worker.ok()) r.Fail("no identity");
    m.roster.push_back({worker.ok() ? *std::move(worker) : SpiffeId(), r.Hash()});
  }
}

void Read(CanonicalReader& r, Advert& m) {
  m.id = ReadId(r);
  m.site = r.U8();
  ReadArray(r, m.channel_key);
  ReadArray(r, m.mask_key);
  for (Digest* d : {&m.seed_hash, &m.t0, &m.ledger_head}) *d = r.Hash();
}

void Read(CanonicalReader& r, Shares& m) {
  m.id = ReadId(r);
  m.dealer = r.U8();
  m.t1 = r.Hash();
  const size_t n = r.Count(kMaxSites);
  for (size_t i = 0; i < n && r.status().ok(); ++i) {
    ShareCommitment& c = m.commitments.emplace_back();
    c.holder = r.U8();
    c.mask_key_share = r.Hash();
    c.seed_share = r.Hash();
  }
}

void Read(CanonicalReader& r, InputHeader& m) {
  m.id = ReadId(r);
  m.site = r.U8();
  m.t2 = r.Hash();
  m.elements = r.U64();
  m.sha256 = r.Hash();
}

void Read(CanonicalReader& r, Agreement& m) {
  m.id = ReadId(r);
  m.site = r.U8();
  m.t2 = r.Hash();
  const size_t n = r.Count(kMaxSites);
  for (size_t i = 0; i < n; ++i) m.survivors.push_back(r.U8());
}

// ---- One pair for each kind of record.

void Put(CanonicalWriter& w, const LogStarted& v) {
  w.Raw(Canonical(v.offer));
  w.Count(v.chains.size());
  for (const auto& [site, chain] : v.chains) {
    w.U8(site);
    w.Text(chain);
  }
}
void Get(CanonicalReader& r, LogStarted& v) {
  Read(r, v.offer);
  const size_t n = r.Count(kMaxSites);
  for (size_t i = 0; i < n && r.status().ok(); ++i) {
    const SiteIndex site = r.U8();
    if (!v.chains.empty() && site <= v.chains.rbegin()->first) r.Fail("chains must be sorted by site");
    v.chains.emplace(site, r.Text(kMaxChainBytes));
  }
}

template <typename T>
void Put(CanonicalWriter& w, const Signed<T>& v) {
  w.Raw(Canonical(v.body));
  w.Raw(v.signature);
  if constexpr (std::is_same_v<T, Shares>) {
    w.Count(v.body.ciphertexts.size());
    for (const ShareCiphertext& c : v.body.ciphertexts) w.Raw(c);
    if (v.body.pair_seals.empty()) return;  // as it was before there were pairwise keys
    w.Count(v.body.pair_seals.size());
    for (const PairSeal& seal : v.body.pair_seals) w.Raw(seal);
  }
}
template <typename T>
void Get(CanonicalReader& r, Signed<T>& v) {
  Read(r, v.body);
  ReadArray(r, v.signature);
  if constexpr (std::is_same_v<T, Shares>) {
    const size_t n = r.Count(kMaxSites);
    for (size_t i = 0; i < n && r.status().ok(); ++i) ReadArray(r, v.body.ciphertexts.emplace_back());
    if (!r.status().ok() || r.left() == 0) return;
    const size_t seals = r.Count(kMaxSites);
    if (seals == 0) r.Fail("an empty list of pair seals");
    for (size_t i = 0; i < seals && r.status().ok(); ++i) ReadArray(r, v.body.pair_seals.emplace_back());
  }
}

void Put(CanonicalWriter&, const LogStepClosed&) {}
void Get(CanonicalReader&, LogStepClosed&) {}

void Put(CanonicalWriter& w, const LogEnded& v) {
  w.U8(static_cast<uint8_t>(v.aborted.code));
  w.U8(v.aborted.accuser);
  w.U8(v.aborted.accused);
  w.Text(std::string_view(v.aborted.message).substr(0, kMaxTextBytes));
}
void Get(CanonicalReader& r, LogEnded& v) {
  const uint8_t code = r.U8();
  if (code < static_cast<uint8_t>(Aborted::Code::kTooFewAdverts) ||
      code > static_cast<uint8_t>(Aborted::Code::kCancelled)) {
    r.Fail("no reason to end");
  }
  v.aborted.code = static_cast<Aborted::Code>(code);
  v.aborted.accuser = r.U8();
  v.aborted.accused = r.U8();
  v.aborted.message = r.Text(kMaxTextBytes);
}

template <size_t I = 0>
void GetKind(CanonicalReader& r, size_t kind, CoordinatorEvent& event) {
  if constexpr (I == std::variant_size_v<decltype(event.what)>) {
    r.Fail("a kind of record that does not exist");
  } else if (kind == I) {
    Get(r, event.what.template emplace<I>());
  } else {
    GetKind<I + 1>(r, kind, event);
  }
}

CoordinatorPhase StepOf(const Advert&) { return kAdverts; }
CoordinatorPhase StepOf(const Shares&) { return kShares; }
CoordinatorPhase StepOf(const InputHeader&) { return kInput; }
CoordinatorPhase StepOf(const Agreement&) { return kAgreement; }

}  // namespace

Bytes EncodeEvent(const CoordinatorEvent& event) {
  CanonicalWriter w;
  w.U8(kVersion);
  w.U32(event.seq);
  w.I64(event.at.time_since_epoch().count());
  w.U8(static_cast<uint8_t>(event.after));
  w.U8(static_cast<uint8_t>(event.what.index()));
  std::visit([&](const auto& what) { Put(w, what); }, event.what);
  return w.Take();
}

StatusOr<CoordinatorEvent> DecodeEvent(ByteView record) {
  CanonicalReader r(record);
  const uint8_t version = r.U8();
  if (version != kVersion) {
    return DataLoss("a coordinator record of version {}, expected {}", version, kVersion);
  }
  CoordinatorEvent event;
  event.seq = r.U32();
  event.at = Instant(Millis(r.I64()));
  if (!InCivilRange(event.at)) r.Fail("an instant that no clock shows");
  const uint8_t after = r.U8();
  if (after > static_cast<uint8_t>(kAborted)) r.Fail("a phase that does not exist");
  event.after = static_cast<CoordinatorPhase>(after);
  GetKind(r, r.U8(), event);
  if (Status status = r.Finish(); !status.ok()) return DataLoss("coordinator record: {}", Message(status));
  return event;
}

LoggedRound::LoggedRound(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
                         std::map<SiteIndex, std::string> chains, bool pairwise)
    : LoggedRound(CoordinatorRound(std::move(offer), key, peers, chains, pairwise), chains) {}

// ---- Forwards: every event goes to the round, and its decision into a record.

LoggedEffects LoggedRound::Logged(CoordinatorEffects effects, CoordinatorPhase before, Instant now,
                                  std::optional<CoordinatorEvent::What> what) {
  LoggedEffects out{std::move(effects), std::nullopt};
  if (out.aborted.has_value()) {
    what = LogEnded{*out.aborted};  // whatever led to it
  } else if (!what.has_value() && out.phase != before && out.phase <= kUnmask) {
    what = LogStepClosed{};
  }
  if (what.has_value()) out.record = EncodeEvent({next_seq_++, now, out.phase, *std::move(what)});
  if (out.deadline.has_value()) {
    deadline_ = out.deadline;
    hold_until_.reset();  // a new step has its own deadline
  }
  if (out.phase > kUnmask) deadline_.reset();
  return out;
}

template <typename T>
StatusOr<LoggedEffects> LoggedRound::Answered(StatusOr<CoordinatorEffects> effects, CoordinatorPhase before,
                                              SiteIndex site, CoordinatorPhase step, const T& what,
                                              Instant now) {
  RETURN_IF_ERROR(effects.status());
  // A repeat changes nothing, and neither does an answer that nobody waits for any longer.
  const bool is_new = before == step && answered_.emplace(step, site).second;
  return Logged(*std::move(effects), before, now,
                is_new ? std::optional<CoordinatorEvent::What>(what) : std::nullopt);
}

StatusOr<LoggedEffects> LoggedRound::Start(Instant now) {
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.Start(now));
  return Logged(std::move(effects), kIdle, now, LogStarted{round_.offer(), std::move(chains_)});
}

StatusOr<LoggedEffects> LoggedRound::OnAdvert(const Signed<Advert>& advert, Instant now) {
  const auto before = round_.phase();
  return Answered(round_.OnAdvert(advert, now), before, advert.body.site, kAdverts, advert, now);
}

StatusOr<LoggedEffects> LoggedRound::OnShares(const Signed<Shares>& shares, Instant now) {
  const auto before = round_.phase();
  return Answered(round_.OnShares(shares, now), before, shares.body.dealer, kShares, shares, now);
}

StatusOr<LoggedEffects> LoggedRound::OnComplaint(const Signed<Complaint>& complaint, Instant now) {
  const auto before = round_.phase();
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.OnComplaint(complaint, now));
  return Logged(std::move(effects), before, now);
}

StatusOr<LoggedEffects> LoggedRound::OnUploaded(SiteIndex site, uint64_t elements, const Digest& sha256,
                                                const Signed<InputHeader>& header, Instant now) {
  const auto before = round_.phase();
  auto out =
      Answered(round_.OnUploaded(site, elements, sha256, header, now), before, site, kInput, header, now);
  if (out.ok() && !out->accept.empty()) uploads_.emplace(site, header);
  return out;
}

StatusOr<LoggedEffects> LoggedRound::OnAgreement(const Signed<Agreement>& agreement, Instant now) {
  const auto before = round_.phase();
  return Answered(round_.OnAgreement(agreement, now), before, agreement.body.site, kAgreement, agreement,
                  now);
}

StatusOr<LoggedEffects> LoggedRound::OnUnmask(const Signed<Unmask>& unmask, Instant now) {
  const auto before = round_.phase();
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.OnUnmask(unmask, now));
  return Logged(std::move(effects), before, now);
}

StatusOr<LoggedEffects> LoggedRound::OnLost(SiteIndex site, Instant now) {
  const auto before = round_.phase();
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.OnLost(site, now));
  return Logged(std::move(effects), before, now);
}

StatusOr<LoggedEffects> LoggedRound::OnRejoined(SiteIndex site, Instant now) {
  const auto before = round_.phase();
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.OnRejoined(site, now));
  return Logged(std::move(effects), before, now);
}

StatusOr<LoggedEffects> LoggedRound::OnTimer(Instant now) {
  if (hold_until_.has_value() && now < *hold_until_) {
    LoggedEffects early;
    early.phase = round_.phase();
    early.deadline = deadline();
    return early;
  }
  const auto before = round_.phase();
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.OnTimer(now));
  return Logged(std::move(effects), before, now);
}

StatusOr<LoggedEffects> LoggedRound::Finish(const Digest& new_adapter, const Digest& sum_sha256,
                                            Instant now) {
  ASSIGN_OR_RETURN(CoordinatorEffects effects, round_.Finish(new_adapter, sum_sha256, now));
  return Logged(std::move(effects), kSummed, now);
}

LoggedEffects LoggedRound::Cancel(std::string_view why, Instant now) {
  const auto before = round_.phase();
  return Logged(round_.Cancel(why), before, now);
}

std::optional<Instant> LoggedRound::deadline() const {
  if (!deadline_.has_value() || !hold_until_.has_value()) return deadline_;
  return std::max(*deadline_, *hold_until_);
}

// ---- The way back.

// The live round may have gone on without sites that it counted as lost. The replay counts nobody as lost, so
// it is never ahead of the record; where it is behind, the sites that have not answered are out.
Status LoggedRound::CloseUntil(CoordinatorPhase after, Instant at) {
  while (round_.phase() < after) {
    const CoordinatorPhase before = round_.phase();
    for (const SiteIndex site : round_.awaited()) {
      ASSIGN_OR_RETURN(const LoggedEffects effects, OnLost(site, at));
      if (effects.phase != before) break;
    }
    if (round_.phase() == before) break;
  }
  if (round_.phase() == after) return OkStatus();
  return DataLoss("replayed to \"{}\", the record says \"{}\"", CoordinatorPhaseName(round_.phase()),
                  CoordinatorPhaseName(after));
}

Status LoggedRound::Apply(const CoordinatorEvent& event) {
  if (ended_.has_value()) return DataLoss("a record after the end");
  if (const auto* ended = std::get_if<LogEnded>(&event.what)) {
    ended_ = ended->aborted;
    (void)Cancel(ended->aborted.message, event.at);
    return CloseUntil(event.after, event.at);
  }
  const auto give = [&](const auto& what) -> Status {
    using T = std::decay_t<decltype(what)>;
    if constexpr (std::is_same_v<T, LogStarted>) {
      return DataLoss("a second beginning");
    } else if constexpr (std::is_same_v<T, LogStepClosed>) {
      return OkStatus();
    } else if constexpr (!std::is_same_v<T, LogEnded>) {
      if (StepOf(what.body) != round_.phase()) return DataLoss("an answer outside its step");
      StatusOr<LoggedEffects> effects = LoggedEffects{};
      if constexpr (std::is_same_v<T, Signed<Advert>>) effects = OnAdvert(what, event.at);
      if constexpr (std::is_same_v<T, Signed<Shares>>) effects = OnShares(what, event.at);
      if constexpr (std::is_same_v<T, Signed<Agreement>>) effects = OnAgreement(what, event.at);
      if constexpr (std::is_same_v<T, Signed<InputHeader>>) {
        effects = OnUploaded(what.body.site, what.body.elements, what.body.sha256, what, event.at);
      }
      if (effects.ok() && !effects->record.has_value()) return DataLoss("an answer that came before");
      return effects.status();
    }
    return OkStatus();
  };
  RETURN_IF_ERROR(std::visit(give, event.what));
  return CloseUntil(event.after, event.at);
}

StatusOr<LoggedRound> LoggedRound::Replay(const crypto::SigningKey& key, const PeerVerifier& peers,
                                          std::span<const Bytes> records, Instant now, Millis grace,
                                          bool pairwise) {
  const auto lost = [](size_t seq, const Status& why) {
    return DataLoss("record {} of the attempt: {}", seq, Message(why));
  };
  if (records.empty()) return DataLoss("an attempt without records");
  auto first = DecodeEvent(records[0]);
  if (!first.ok()) return lost(0, first.status());
  auto* started = std::get_if<LogStarted>(&first->what);
  if (started == nullptr || first->seq != 0 || first->after != kAdverts) {
    return DataLoss("the attempt's first record is not its beginning");
  }
  LoggedRound round(std::move(started->offer), key, peers, std::move(started->chains), pairwise);
  if (auto effects = round.Start(first->at); !effects.ok()) return lost(0, effects.status());
  for (size_t seq = 1; seq < records.size(); ++seq) {
    const auto event = DecodeEvent(records[seq]);
    if (!event.ok()) return lost(seq, event.status());
    if (event->seq != seq) return DataLoss("record {} of the attempt is in place {}", event->seq, seq);
    if (Status status = round.Apply(*event); !status.ok()) return lost(seq, status);
  }
  round.next_seq_ = static_cast<uint32_t>(records.size());  // closing a step again took numbers too
  round.hold_until_ = now + grace;
  return round;
}

}  // namespace concordat::secagg
