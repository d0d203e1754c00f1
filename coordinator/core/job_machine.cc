#include "coordinator/core/job_machine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/job_privacy.h"
#include "policy/worker_bounds.h"

namespace concordat::coordinator {
namespace {

using secagg::CoordinatorPhase;

/// A pause before the next attempt, so that a fault that repeats at once does not spend every attempt at
/// once.
constexpr Millis kBackoff{1000};
constexpr uint32_t kMaxBackoffDoublings = 3;
/// Workers notice that a coordinator is gone and come back within this.
constexpr Millis kReturn{30'000};
/// Of one jurisdiction's workers that have left.
constexpr int kMostRemembered = 16;

}  // namespace

JobMachine::JobMachine(const CoreContext& context, JobRecord record, policy::JobSpec spec, Instant now)
    : context_(&context),
      record_(std::move(record)),
      signed_job_(std::make_shared<const policy::SignedJob>(record_.signed_job)),
      spec_(std::make_shared<const policy::JobSpec>(std::move(spec))),
      adapter_(record_.initial_adapter),
      due_(now),
      not_before_(now) {
  SetUp();
}

JobMachine::JobMachine(const CoreContext& context, StoredJob stored, policy::JobSpec spec, Instant now)
    : JobMachine(context, std::move(stored.job), std::move(spec), now) {
  rounds_ = std::move(stored.rounds);
  if (!rounds_.empty()) adapter_ = rounds_.back().adapter;
  phase_ = stored.phase.phase;
  if (phase_ == JobPhase::kRunning) phase_ = JobPhase::kWaiting;
  failure_ = stored.phase.failure;
  if (HasEnded(phase_)) text_ = stored.phase.failure_text;
  Recall(stored.blames);
  // An attempt that was offered may be known to any worker: its number is spent, whatever became of it.
  if (stored.last_attempt && stored.last_attempt->round == rounds_done()) {
    next_attempt_ = stored.last_attempt->attempt + 1;
    failure_ = AbortReason::kRestarted;
    if (!HasEnded(phase_)) Resume(stored.log, now);
  }
  if (attempt_ == nullptr && !stored.log.empty()) stale_log_ = stored.last_attempt;
}

/// The open attempt, from its log. Everyone has a while to connect again before anybody is missing.
void JobMachine::Resume(std::span<const Bytes> log, Instant now) {
  if (log.empty()) return;
  const Millis grace = std::max(context_->reconnect_grace, kReturn);
  auto round = secagg::LoggedRound::Replay(*context_->key, *context_->peers, log, now, grace,
                                           spec_->secure_aggregation.pairwise_keys);
  if (!round.ok() || round->ended()) return;
  const secagg::Offer& offer = round->round().offer();
  if (offer.id != AttemptId{record_.id, rounds_done(), next_attempt_ - 1} || offer.adapter != adapter_)
    return;
  auto attempt = std::make_unique<Attempt>();
  attempt->id = offer.id;
  attempt->started = now;
  for (const secagg::RosterEntry& entry : offer.roster) {
    attempt->roster.push_back(entry.worker);
    Region& region = regions_[entry.worker];
    region.info = {entry.worker, entry.key_hash, {}};
    region.gone_at = now + grace;
  }
  attempt->round = std::make_unique<secagg::LoggedRound>(*std::move(round));
  attempt->phase = attempt->round->round().phase();
  attempt->deadline = attempt->round->deadline();
  attempt_ = std::move(attempt);
  phase_ = JobPhase::kRunning;
  failure_ = AbortReason::kNone;
  text_.clear();
}

void JobMachine::Reopen(CoreEffects* fx) const {
  if (stale_log_) fx->persist.push_back(AttemptClosedRecord{*stale_log_});
  if (attempt_ == nullptr) return;
  const secagg::CoordinatorRound& round = attempt_->round->round();
  const uint32_t bits = spec_->privacy.modulus_bits;
  const uint64_t bytes = VectorBytes(round.offer().elements, bits);
  fx->began.push_back({attempt_->id, attempt_->roster});
  fx->notes.push_back(fmt::format("{}: goes on after a restart at step \"{}\"", attempt_->id.Brief(),
                                  secagg::CoordinatorPhaseName(round.phase())));
  const auto& uploads = attempt_->round->uploads();
  for (const auto& [site, header] : uploads)
    fx->accept_uploads.push_back(
        {attempt_->id, attempt_->roster.at(site - 1), bytes, header.body.sha256, bits});
  if (round.phase() != CoordinatorPhase::kInput) return;
  for (const SiteIndex site : round.dealers())
    if (!uploads.contains(site))
      fx->open_uploads.push_back({attempt_->id, attempt_->roster.at(site - 1), bytes, {}, bits});
}

void JobMachine::SetUp() {
  for (const std::string& jurisdiction : context_->jurisdictions) {
    const auto& named = spec_->cohort.jurisdictions;
    if (named.empty() || std::find(named.begin(), named.end(), jurisdiction) != named.end()) {
      invited_.push_back(jurisdiction);
    }
  }
  if (!HasEnded(phase_)) text_ = "waiting for the invited regions";
}

bool JobMachine::Invites(const SpiffeId& worker) const {
  return std::find(invited_.begin(), invited_.end(), worker.jurisdiction()) != invited_.end();
}

uint32_t JobMachine::Minimum() const {
  return std::max({spec_->cohort.minimum, context_->minimum_cohort, 3u});
}

// ---- Workers come, go and answer.

void JobMachine::OnConnected(const WorkerInfo& worker, Instant now, CoreEffects* fx) {
  if (!Invites(worker.id)) return;
  Region& region = regions_[worker.id];
  region.info = worker;
  region.connected = true;
  region.gone_at.reset();
  region.answer = {};
  region.certificate = OkStatus();
  region.checked.reset();
  fx->changed.insert(record_.id);
  if (HasEnded(phase_)) return;
  given_up_.erase(worker.id.jurisdiction());
  fx->send.push_back({worker.id, JobNotice{signed_job_, false, rounds_done()}});
  ResendStep(worker.id, now, fx);
}

void JobMachine::ResendStep(const SpiffeId& worker, Instant now, CoreEffects* fx) {
  if (attempt_ == nullptr) return;
  const auto site = SiteOf(attempt_->id, worker);
  // A renewed key is another site to the attempt; it takes part from the next one on.
  if (!site.ok() ||
      attempt_->round->round().offer().roster[*site - 1].key_hash != regions_.at(worker).info.key_hash) {
    return;
  }
  auto effects = attempt_->round->OnRejoined(*site, now);
  if (!effects.ok()) return;  // no longer a member
  regions_.at(worker).dropped = DropReason::kNone;
  Absorb(std::move(*effects), now, fx);
}

/// A jurisdiction can make identities without end: of those that have left only some are remembered.
void JobMachine::ForgetStrangers(const std::string& jurisdiction) {
  const auto left = [&](const auto& entry) {
    return !entry.second.connected && entry.first.jurisdiction() == jurisdiction &&
           (attempt_ == nullptr || !SiteOf(attempt_->id, entry.first).ok());
  };
  for (auto many = std::count_if(regions_.begin(), regions_.end(), left); many > kMostRemembered; --many)
    regions_.erase(std::find_if(regions_.begin(), regions_.end(), left));
}

void JobMachine::OnLost(const SpiffeId& worker, Instant now, CoreEffects* fx) {
  const auto it = regions_.find(worker);
  if (it == regions_.end() || !it->second.connected) return;
  it->second.connected = false;
  it->second.answer = {};
  it->second.phase = 0;
  it->second.permille = 0;
  fx->changed.insert(record_.id);
  if (attempt_ == nullptr || !SiteOf(attempt_->id, worker).ok())
    return ForgetStrangers(worker.jurisdiction());
  // A link that broke may come back, and the worker goes on where it was.
  it->second.gone_at = now + context_->reconnect_grace;
  if (context_->reconnect_grace == Millis(0)) CountAsLost(worker, now, fx);
}

/// Nobody waits for `worker` in the open attempt any longer.
void JobMachine::CountAsLost(const SpiffeId& worker, Instant now, CoreEffects* fx) {
  regions_.at(worker).gone_at.reset();
  const auto site = SiteOf(attempt_->id, worker);
  if (!site.ok()) return;
  if (auto effects = attempt_->round->OnLost(*site, now); effects.ok()) Absorb(std::move(*effects), now, fx);
}

Status JobMachine::OnAnswer(const SpiffeId& worker, const JobAnswer& answer, Instant now, CoreEffects* fx) {
  if (!Invites(worker))
    return PermissionDenied("job {} does not invite {}", record_.id.brief(), worker.Brief());
  const auto it = regions_.find(worker);
  if (it == regions_.end() || !it->second.connected) {
    return FailedPrecondition("{} answered without being connected", worker.Brief());
  }
  it->second.answer = answer;
  fx->changed.insert(record_.id);
  if (answer.verdict != Verdict::kWithdrawn || attempt_ == nullptr) return OkStatus();
  if (!SiteOf(attempt_->id, worker).ok()) return OkStatus();
  it->second.dropped = DropReason::kWithdrawn;
  CountAsLost(worker, now, fx);
  return OkStatus();
}

Status JobMachine::OnProgress(const SpiffeId& worker, const WorkerProgress& progress, CoreEffects* fx) {
  const auto it = regions_.find(worker);
  if (it == regions_.end()) return NotFound("{} is not part of job {}", worker.Brief(), record_.id.brief());
  it->second.phase = progress.phase;
  it->second.permille = progress.permille;
  fx->changed.insert(record_.id);
  return OkStatus();
}

Status JobMachine::OnDropout(const SpiffeId& worker, const Dropout& dropout, Instant now, CoreEffects* fx) {
  const DropReason reason = ReasonOfDropout(dropout.code);
  if (reason == DropReason::kNone) return InvalidArgument("dropout: unknown code {}", dropout.code);
  RETURN_IF_ERROR(SiteOf(dropout.id, worker).status());
  regions_.at(worker).dropped = reason;
  fx->changed.insert(record_.id);
  fx->notes.push_back(fmt::format("{}: {} drops out: {} (refusal {})", dropout.id.Brief(), worker.Brief(),
                                  DropReasonText(reason), dropout.refusal));
  CountAsLost(worker, now, fx);
  return OkStatus();
}

Status JobMachine::OnResultAck(const SpiffeId& worker, const ResultAck& ack, CoreEffects* fx) {
  if (!regions_.contains(worker) || ack.id.round >= rounds_.size() || rounds_[ack.id.round].id != ack.id) {
    return NotFound("no result of {} for {}", ack.id.Brief(), worker.Brief());
  }
  if (ack.new_adapter != rounds_[ack.id.round].adapter) {
    regions_.at(worker).dropped = DropReason::kResultMismatch;
    fx->changed.insert(record_.id);
    fx->notes.push_back(fmt::format("{}: {} computed another adapter", ack.id.Brief(), worker.Brief()));
  }
  return OkStatus();
}

// ---- An open attempt.

StatusOr<SiteIndex> JobMachine::SiteOf(const AttemptId& id, const SpiffeId& worker) const {
  if (attempt_ == nullptr || attempt_->id != id) {
    return FailedPrecondition("{} is not the open attempt of its job", id.Brief());
  }
  const auto& roster = attempt_->roster;
  const auto it = std::lower_bound(roster.begin(), roster.end(), worker);
  if (it == roster.end() || *it != worker) {
    return PermissionDenied("{} is not in the roster of {}", worker.Brief(), id.Brief());
  }
  return static_cast<SiteIndex>(it - roster.begin() + 1);
}

namespace {

SiteIndex SenderOf(const secagg::Advert& m) { return m.site; }
SiteIndex SenderOf(const secagg::Shares& m) { return m.dealer; }
SiteIndex SenderOf(const secagg::Complaint& m) { return m.site; }
SiteIndex SenderOf(const secagg::Agreement& m) { return m.site; }
SiteIndex SenderOf(const secagg::Unmask& m) { return m.site; }

using secagg::LoggedRound;
auto Give(LoggedRound& r, const secagg::Signed<secagg::Advert>& m, Instant t) { return r.OnAdvert(m, t); }
auto Give(LoggedRound& r, const secagg::Signed<secagg::Shares>& m, Instant t) { return r.OnShares(m, t); }
auto Give(LoggedRound& r, const secagg::Signed<secagg::Complaint>& m, Instant t) {
  return r.OnComplaint(m, t);
}
auto Give(LoggedRound& r, const secagg::Signed<secagg::Agreement>& m, Instant t) {
  return r.OnAgreement(m, t);
}
auto Give(LoggedRound& r, const secagg::Signed<secagg::Unmask>& m, Instant t) { return r.OnUnmask(m, t); }

}  // namespace

template <typename T>
Status JobMachine::OnMessage(const SpiffeId& worker, const secagg::Signed<T>& message, Instant now,
                             CoreEffects* fx) {
  ASSIGN_OR_RETURN(const SiteIndex site, SiteOf(message.body.id, worker));
  if (site != SenderOf(message.body)) {
    return PermissionDenied("{} spoke as site {}, it is site {}", worker.Brief(), SenderOf(message.body),
                            site);
  }
  auto effects = Give(*attempt_->round, message, now);
  if constexpr (std::is_same_v<T, secagg::Complaint>) {
    // It has given the attempt up, and accuses nobody any more.
    if (secagg::RefusalCodeOf(effects.status()) == secagg::RefusalCode::kLate &&
        attempt_->round->round().MayUpload(site)) {
      regions_.at(worker).dropped = DropReason::kProtocolViolation;
      fx->notes.push_back(fmt::format("{}: {} drops out: {}", message.body.id.Brief(), worker.Brief(),
                                      Message(effects.status())));
      CountAsLost(worker, now, fx);
      return OkStatus();
    }
  }
  RETURN_IF_ERROR(effects.status());
  Absorb(*std::move(effects), now, fx);
  return OkStatus();
}
template Status JobMachine::OnMessage(const SpiffeId&, const secagg::Signed<secagg::Advert>&, Instant,
                                      CoreEffects*);
template Status JobMachine::OnMessage(const SpiffeId&, const secagg::Signed<secagg::Shares>&, Instant,
                                      CoreEffects*);
template Status JobMachine::OnMessage(const SpiffeId&, const secagg::Signed<secagg::Complaint>&, Instant,
                                      CoreEffects*);
template Status JobMachine::OnMessage(const SpiffeId&, const secagg::Signed<secagg::Agreement>&, Instant,
                                      CoreEffects*);
template Status JobMachine::OnMessage(const SpiffeId&, const secagg::Signed<secagg::Unmask>&, Instant,
                                      CoreEffects*);

Status JobMachine::OnUploaded(const SpiffeId& worker, uint64_t elements, const Digest& sha256,
                              const secagg::Signed<secagg::InputHeader>& header, Instant now,
                              CoreEffects* fx) {
  ASSIGN_OR_RETURN(const SiteIndex site, SiteOf(header.body.id, worker));
  auto effects = attempt_->round->OnUploaded(site, elements, sha256, header, now);
  if (effects.ok()) {
    Absorb(std::move(*effects), now, fx);
    return OkStatus();
  }
  if (secagg::RefusalCodeOf(effects.status()) == secagg::RefusalCode::kDigest) {
    // What is stored can never become what the header says: nobody needs to wait for this site any longer.
    regions_.at(worker).dropped = DropReason::kBadUpload;
    CountAsLost(worker, now, fx);
  }
  return effects.status();
}

void JobMachine::Absorb(secagg::LoggedEffects effects, Instant now, CoreEffects* fx) {
  Attempt& a = *attempt_;
  fx->changed.insert(record_.id);
  const auto worker = [&a](SiteIndex site) -> const SpiffeId& { return a.roster.at(site - 1); };
  if (effects.record) fx->persist.push_back(AttemptLogRecord{a.id, *std::move(effects.record)});
  if (effects.survivors) {
    SurvivorsRecord record{a.id, {}};
    for (const SiteIndex site : *effects.survivors) record.survivors.push_back(worker(site));
    fx->persist.push_back(std::move(record));
  }
  const uint32_t bits = spec_->privacy.modulus_bits;
  const uint64_t bytes = VectorBytes(a.round->round().offer().elements, bits);
  for (const SiteIndex site : effects.accept)
    fx->accept_uploads.push_back({a.id, worker(site), bytes, a.round->uploads().at(site).body.sha256, bits});
  const CoordinatorPhase before = a.phase;
  a.phase = effects.phase;
  if (before < CoordinatorPhase::kInput && a.phase == CoordinatorPhase::kInput) {
    for (const SiteIndex site : a.round->round().dealers())
      fx->open_uploads.push_back({a.id, worker(site), bytes, {}, bits});
  }
  if (before == CoordinatorPhase::kInput && a.phase != CoordinatorPhase::kInput)
    fx->close_uploads.push_back(a.id);
  for (auto& out : effects.send) fx->send.push_back({worker(out.to), std::move(out.message)});
  if (effects.deadline) a.deadline = a.round->deadline();
  for (const secagg::DroppedSite& dropped : effects.dropped) {
    Region& region = regions_.at(worker(dropped.site));
    if (region.dropped == DropReason::kNone)
      region.dropped = region.connected ? ReasonOf(dropped) : DropReason::kDisconnected;
    fx->notes.push_back(fmt::format("{}: without {}: {}", a.id.Brief(), worker(dropped.site).Brief(),
                                    DropReasonText(region.dropped)));
  }
  if (effects.unmask) {
    a.sum_ordered = true;
    a.deadline.reset();
    fx->sums.push_back({a.id, std::move(*effects.unmask), spec_, a.round->round().offer(), adapter_});
  }
  if (effects.aborted) {
    Exclude(effects, fx);
    Abort(ReasonOf(effects.aborted->code), effects.aborted->message, now, fx);
  }
}

void JobMachine::CloseAttempt(AbortReason reason, CoreEffects* fx) {
  for (const SpiffeId& id : attempt_->roster) {
    regions_.at(id).gone_at.reset();
    if (regions_.at(id).connected) fx->send.push_back({id, AttemptAborted{attempt_->id, reason}});
  }
  fx->persist.push_back(AttemptClosedRecord{attempt_->id});
  fx->drop_attempts.push_back(attempt_->id);
  attempt_.reset();
}

/// "; fr/site: its trainer failed": what is known of each site that the open attempt went on without.
std::string JobMachine::WhyDropped() const {
  std::string out;
  for (const SpiffeId& id : attempt_->roster) {
    const DropReason reason = regions_.at(id).dropped;
    if (reason != DropReason::kNone) out += fmt::format("; {}: {}", id.Brief(), DropReasonText(reason));
  }
  return out;
}

void JobMachine::Abort(AbortReason reason, const std::string& text, Instant now, CoreEffects* fx) {
  const std::string why = fmt::format("{}{}", AbortReasonText(reason), WhyDropped());
  fx->notes.push_back(
      fmt::format("{}: aborted: {}{}{}", attempt_->id.Brief(), why, text.empty() ? "" : "; ", text));
  const AttemptIndex attempt = attempt_->id.attempt;
  CloseAttempt(reason, fx);
  failure_ = reason;
  text_ = fmt::format("attempt {} was aborted: {}", uint64_t{attempt} + 1, why);  // for people: from 1
  due_ = now;
  not_before_ = now + kBackoff * (1u << std::min<uint32_t>(attempt, kMaxBackoffDoublings));
  if (next_attempt_ >= spec_->cohort.attempts_per_round) {
    End(JobPhase::kFailed, AbortReason::kAttemptsSpent,
        fmt::format("round {}: all {} attempts were aborted, the last because {}", rounds_done(),
                    next_attempt_, why),
        fx);
  }
}

// ---- The sum, and the next round.

RoundRecord JobMachine::MakeRecord(const SumFinished& sum, Instant now) const {
  RoundRecord r;
  r.id = sum.id;
  for (const SiteIndex site : attempt_->round->round().survivors())
    r.survivors.push_back(attempt_->roster[site - 1]);
  for (const auto& [id, region] : regions_) {
    if (!std::binary_search(r.survivors.begin(), r.survivors.end(), id)) r.missing.push_back(id);
  }
  r.adapter = sum.adapter;
  r.parent = adapter_;
  r.sum_sha256 = sum.sum_sha256;
  const policy::RoundFigures figures = policy::FiguresOf(*spec_, sum.metric_sums, r.survivors.size());
  r.mean_loss = figures.mean_loss;
  r.tokens = figures.tokens;
  // Earlier rounds may have had more sites, and a site of theirs a smaller share of the noise.
  size_t sites = r.survivors.size() + r.missing.size();
  for (const RoundRecord& earlier : rounds_)
    sites = std::max(sites, earlier.survivors.size() + earlier.missing.size());
  const auto statement = policy::PlanStatement(*spec_, sum.id.round + 1,
                                               policy::PricedSites(*spec_, static_cast<uint32_t>(sites)));
  const double infinity = std::numeric_limits<double>::infinity();
  r.epsilon_local = statement.ok() ? statement->epsilon_local : infinity;
  r.epsilon_distributed = statement.ok() ? statement->epsilon_distributed.value_or(infinity) : infinity;
  r.bytes_up = sum.bytes_up;
  r.bytes_down = sum.bytes_down;
  r.started = attempt_->started;
  r.ended = now;
  return r;
}

Status JobMachine::OnSumFinished(const SumFinished& sum, Instant now, CoreEffects* fx) {
  if (attempt_ == nullptr || attempt_->id != sum.id || !attempt_->sum_ordered) {
    return FailedPrecondition("{} waits for no sum", sum.id.Brief());
  }
  ASSIGN_OR_RETURN(auto effects, attempt_->round->Finish(sum.adapter, sum.sum_sha256, now));
  RoundRecord record = MakeRecord(sum, now);
  fx->persist.push_back(record);
  fx->notes.push_back(fmt::format("{}: done with {}; missing: {}", sum.id.Brief(),
                                  BriefList(record.survivors), BriefList(record.missing)));
  Absorb(std::move(effects), now, fx);
  fx->persist.push_back(AttemptClosedRecord{sum.id});
  fx->drop_attempts.push_back(sum.id);
  adapter_ = sum.adapter;
  rounds_.push_back(std::move(record));
  attempt_.reset();
  BeginRound(now);
  if (rounds_.size() >= spec_->rounds) End(JobPhase::kDone, AbortReason::kNone, "", fx);
  return OkStatus();
}

void JobMachine::BeginRound(Instant now) {
  next_attempt_ = 0;
  accused_.clear();
  silent_.clear();
  failure_ = AbortReason::kNone;
  due_ = now;
  not_before_ = now;
}

Status JobMachine::OnSumFailed(const AttemptId& id, Instant now, CoreEffects* fx) {
  if (attempt_ == nullptr || attempt_->id != id) return FailedPrecondition("{} is not open", id.Brief());
  (void)attempt_->round->Cancel("the sum failed", now);
  Abort(AbortReason::kSumFailed, "", now, fx);
  return OkStatus();
}

void JobMachine::OnTimer(Instant now, CoreEffects* fx) {
  // Each of them may end the attempt.
  for (auto it = regions_.begin(); attempt_ != nullptr && it != regions_.end(); ++it)
    if (it->second.gone_at && now >= *it->second.gone_at) CountAsLost(it->first, now, fx);
  if (attempt_ == nullptr || !attempt_->deadline || now < *attempt_->deadline) return;
  attempt_->deadline.reset();
  if (auto effects = attempt_->round->OnTimer(now); effects.ok()) Absorb(std::move(*effects), now, fx);
}

Status JobMachine::Cancel(Instant now, CoreEffects* fx) {
  if (HasEnded(phase_)) {
    return FailedPrecondition("job {} has ended: {}", record_.id.brief(), JobPhaseName(phase_));
  }
  if (attempt_ != nullptr) {
    (void)attempt_->round->Cancel("cancelled", now);  // the log goes with the attempt
    CloseAttempt(AbortReason::kCancelled, fx);
  }
  End(JobPhase::kCancelled, AbortReason::kCancelled, "cancelled", fx);
  return OkStatus();
}

void JobMachine::End(JobPhase phase, AbortReason failure, const std::string& text, CoreEffects* fx) {
  phase_ = phase;
  failure_ = failure;
  text_ = text;
  fx->persist.push_back(JobPhaseRecord{record_.id, phase, failure, text});
  for (const auto& [id, region] : regions_) {
    if (region.connected) fx->send.push_back({id, JobEnded{record_.id, phase, adapter_}});
  }
  fx->changed.insert(record_.id);
  fx->notes.push_back(
      fmt::format("job {}: {}{}{}", record_.id.brief(), JobPhaseName(phase), text.empty() ? "" : ": ", text));
}

std::optional<Instant> JobMachine::deadline(Instant now) const {
  if (HasEnded(phase_)) return std::nullopt;
  if (attempt_ != nullptr) {
    std::optional<Instant> next = attempt_->deadline;
    for (const auto& [id, region] : regions_)
      if (region.gone_at && (!next || *region.gone_at < *next)) next = region.gone_at;
    return next;
  }
  const Instant waited = due_ + Millis(spec_->cohort.wait_ms);
  const Instant next = std::max(not_before_, AllSettled() ? not_before_ : waited);
  if (next > now) return next;
  // Past both instants only an event can make the job ready, or a certificate that begins to hold.
  std::optional<Instant> look;
  for (const auto& [id, region] : regions_) {
    if (!region.connected || region.certificate.ok() || !region.checked) continue;
    const Instant again = *region.checked + kCertificateCounts;
    if (!look || again < *look) look = again;
  }
  return look;
}

std::vector<SpiffeId> JobMachine::Busy() const {
  std::vector<SpiffeId> out;
  if (attempt_ == nullptr) return out;
  for (const SpiffeId& id : attempt_->roster) {
    const Region& region = regions_.at(id);
    if (region.connected && region.dropped == DropReason::kNone) out.push_back(id);
  }
  return out;
}

JobView JobMachine::View(Instant now) const {
  JobView v;
  v.id = record_.id;
  v.name = spec_->name;
  v.phase = phase_;
  v.rounds_total = spec_->rounds;
  v.attempt = attempt_ ? attempt_->id.attempt : next_attempt_;
  if (attempt_) {
    constexpr uint32_t kSteps[] = {0, 1, 3, 5, 7, 8, 9, 9, 0};
    v.step = kSteps[static_cast<size_t>(attempt_->phase)];
  }
  for (const std::string& jurisdiction : invited_) {
    bool known = false;
    for (const auto& [id, r] : regions_) {
      if (id.jurisdiction() != jurisdiction) continue;
      v.regions.push_back({id.ToString(), r.connected, r.answer, r.phase, r.permille, r.dropped});
      known = true;
    }
    if (!known) v.regions.push_back({"spiffe://" + jurisdiction, false, {}, 0, 0, DropReason::kNone});
  }
  v.adapter = adapter_;
  v.rounds = rounds_;
  if (!HasEnded(phase_) && !rounds_.empty()) {
    Millis mean{0};
    for (const RoundRecord& r : rounds_) mean += r.ended - r.started;
    mean /= static_cast<int64_t>(rounds_.size());
    const Millis passed = attempt_ ? std::min(mean, Millis(now - attempt_->started)) : Millis(0);
    v.eta = mean * static_cast<int64_t>(spec_->rounds - rounds_.size()) - passed;
  }
  v.failure = failure_;
  v.text = text_;
  v.submitter = record_.submitter;
  v.submitted = record_.submitted;
  return v;
}

}  // namespace concordat::coordinator
