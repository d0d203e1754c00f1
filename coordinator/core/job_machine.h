#ifndef CONCORDAT_COORDINATOR_CORE_JOB_MACHINE_H_
#define CONCORDAT_COORDINATOR_CORE_JOB_MACHINE_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/effects.h"
#include "privacy/secagg/coordinator_log.h"

namespace concordat::coordinator {

/// What all jobs share. Everything outlives the machines.
struct CoreContext {
  Digest charter;
  std::vector<std::string> jurisdictions;  // the charter's members
  uint32_t minimum_cohort = 0;             // the charter's
  const crypto::SigningKey* key = nullptr;
  const secagg::PeerVerifier* peers = nullptr;
  Millis reconnect_grace{0};  // a step waits so long for a site whose connection broke
};

/// One job from registration to its end.
///
///   kWaiting ─StartAttempt→ kRunning ─OnSumFinished, last round→ kDone
///   kRunning ─too few sites are left→ kWaiting
///   kRunning ─abort of the last allowed attempt→ kFailed         either ─Cancel→ kCancelled
///
/// Within kRunning an attempt is open (a secagg::LoggedRound) or the next one is due: at once after a
/// finished round, after a backoff after an aborted attempt. A round begins when every invited jurisdiction
/// has an answer from each connected worker, or after cohort.wait with at least the minimum; jurisdictions
/// that were waited for in vain are not waited for again until one of their workers connects.
///
/// A region whose certificate might run out during an attempt is not offered it (secagg::CheckMember).
///
/// After a complaint nobody can tell who lies. The accused sits out the round, unless too few are left
/// without it. Complaints are remembered for the whole job, by jurisdiction: one that accuses a second time
/// is left out of the rest of the job; so is one that is accused by a second jurisdiction, if its accuser has
/// accused nobody else. A convicted site's jurisdiction is left out of the rest of the job: what convicts is
/// what it signed.
///
/// A site whose silence ends an attempt for which others have paid sits out the round, unless too few are
/// left without it. Silence can be the network's, and that of more than half the sites is taken for the
/// coordinator's own. It is counted by jurisdiction: the second one after an upload, or the third of any
/// kind, within kRecentRounds leaves it out of the rest of the job. All of this also after a restart. A job
/// with fewer than three jurisdictions left fails.
///
/// Every call appends to the effects given; a refused event returns a status, appends nothing and leaves the
/// machine as it was. No clock, lock, file or log; not thread-safe.
class JobMachine {
 public:
  JobMachine(const CoreContext& context, JobRecord record, policy::JobSpec spec, Instant now);
  /// Goes on after a restart: an attempt that was open goes on as its log leaves it, or, when that cannot be,
  /// counts as aborted. Call Reopen next.
  JobMachine(const CoreContext& context, StoredJob stored, policy::JobSpec spec, Instant now);
  /// What the shell has to set up for the attempt that goes on.
  void Reopen(CoreEffects* fx) const;

  void OnConnected(const WorkerInfo& worker, Instant now, CoreEffects* fx);
  void OnLost(const SpiffeId& worker, Instant now, CoreEffects* fx);
  /// PermissionDenied when the worker's jurisdiction is not invited.
  Status OnAnswer(const SpiffeId& worker, const JobAnswer& answer, Instant now, CoreEffects* fx);
  Status OnProgress(const SpiffeId& worker, const WorkerProgress& progress, CoreEffects* fx);
  /// secagg's own refusals, and PermissionDenied when `worker` is not the site that the message names.
  template <typename T>
  Status OnMessage(const SpiffeId& worker, const secagg::Signed<T>& message, Instant now, CoreEffects* fx);
  /// The whole upload of `worker` is stored with this length and digest.
  Status OnUploaded(const SpiffeId& worker, uint64_t elements, const Digest& sha256,
                    const secagg::Signed<secagg::InputHeader>& header, Instant now, CoreEffects* fx);
  Status OnDropout(const SpiffeId& worker, const Dropout& dropout, Instant now, CoreEffects* fx);
  Status OnResultAck(const SpiffeId& worker, const ResultAck& ack, CoreEffects* fx);
  Status OnSumFinished(const SumFinished& sum, Instant now, CoreEffects* fx);
  Status OnSumFailed(const AttemptId& id, Instant now, CoreEffects* fx);
  void OnTimer(Instant now, CoreEffects* fx);
  /// FailedPrecondition when it has ended.
  Status Cancel(Instant now, CoreEffects* fx);

  /// The roster of the attempt that is due now; empty when none is. May change what the job says it waits
  /// for.
  std::vector<SpiffeId> DueRoster(Instant now, CoreEffects* fx);
  /// Offers the next attempt to `roster`. \pre DueRoster gave it.
  void StartAttempt(const std::vector<SpiffeId>& roster, Instant now, CoreEffects* fx);

  /// \param now of the last event: a deadline that has passed by then asks for nothing
  std::optional<Instant> deadline(Instant now) const;
  const JobRecord& record() const { return record_; }
  const std::shared_ptr<const policy::SignedJob>& signed_job() const { return signed_job_; }
  const policy::JobSpec& spec() const { return *spec_; }
  JobPhase phase() const { return phase_; }
  bool attempt_open() const { return attempt_ != nullptr; }
  /// Workers of the open attempt that still take part; busy for other jobs.
  std::vector<SpiffeId> Busy() const;
  bool Invites(const SpiffeId& worker) const;
  const std::vector<std::string>& invited() const { return invited_; }
  uint32_t rounds_done() const { return static_cast<uint32_t>(rounds_.size()); }
  const Digest& adapter() const { return adapter_; }
  JobView View(Instant now) const;

 private:
  struct Region {
    WorkerInfo info;
    bool connected = false;
    JobAnswer answer;
    uint32_t phase = 0;
    uint32_t permille = 0;
    DropReason dropped = DropReason::kNone;
    std::optional<Instant> gone_at;  // connection broke; the open attempt waits until here
    Status certificate;              // of its chain when it was looked at last
    std::optional<Instant> checked;  // when that was; empty: not on this connection
  };
  /// What a certificate was found to be counts for so long. An attempt looks again when it starts.
  static constexpr Millis kCertificateCounts{60'000};
  /// A silence is forgotten after so many rounds.
  static constexpr RoundIndex kRecentRounds = 10;
  /// Why a jurisdiction is left out of the rest of the job.
  enum class LeftOut { kComplaints, kConvicted, kSilent };
  struct Silence {
    std::string jurisdiction;
    RoundIndex round = 0;
    bool uploaded = false;
  };
  struct Attempt {
    AttemptId id;
    std::vector<SpiffeId> roster;  // site i is roster[i - 1]
    std::unique_ptr<secagg::LoggedRound> round;
    secagg::CoordinatorPhase phase = secagg::CoordinatorPhase::kIdle;
    std::optional<Instant> deadline;
    Instant started;
    bool sum_ordered = false;
  };

  StatusOr<secagg::Offer> MakeOffer(const std::vector<SpiffeId>& roster) const;
  uint32_t Minimum() const;
  void SetUp();
  void CheckCertificates(Instant now, CoreEffects* fx);
  std::vector<SpiffeId> Eligible() const;
  void TakeBack(CoreEffects* fx);
  bool Hopeless() const;
  StatusOr<std::vector<SpiffeId>> SoundRoster(const std::vector<SpiffeId>& eligible) const;
  bool AllSettled() const;
  void ResendStep(const SpiffeId& worker, Instant now, CoreEffects* fx);
  void ForgetStrangers(const std::string& jurisdiction);
  void CountAsLost(const SpiffeId& worker, Instant now, CoreEffects* fx);
  bool Settled(const std::string& jurisdiction) const;
  StatusOr<SiteIndex> SiteOf(const AttemptId& id, const SpiffeId& worker) const;
  void Resume(std::span<const Bytes> log, Instant now);
  void Absorb(secagg::LoggedEffects effects, Instant now, CoreEffects* fx);
  void Abort(AbortReason reason, const std::string& text, Instant now, CoreEffects* fx);
  void Exclude(const secagg::CoordinatorEffects& effects, CoreEffects* fx);
  void OnComplained(const SpiffeId& accuser, const SpiffeId& accused, CoreEffects* fx);
  void OnSilence(const std::vector<secagg::DroppedSite>& dropped, secagg::CoordinatorPhase step,
                 CoreEffects* fx);
  bool CountSilence(Silence silence);
  void Recall(const std::vector<BlameRecord>& blames);
  bool SitsOut(const SpiffeId& worker) const;
  std::string WhoSitsOut() const;
  std::string WhyDropped() const;
  void CloseAttempt(AbortReason reason, CoreEffects* fx);
  void BeginRound(Instant now);
  void End(JobPhase phase, AbortReason failure, const std::string& text, CoreEffects* fx);
  void SetWaiting(const std::string& text, CoreEffects* fx);
  RoundRecord MakeRecord(const SumFinished& sum, Instant now) const;

  const CoreContext* context_;
  JobRecord record_;
  std::shared_ptr<const policy::SignedJob> signed_job_;
  std::shared_ptr<const policy::JobSpec> spec_;
  std::vector<std::string> invited_;
  JobPhase phase_ = JobPhase::kWaiting;
  AbortReason failure_ = AbortReason::kNone;
  std::string text_;
  Digest adapter_;
  std::vector<RoundRecord> rounds_;
  AttemptIndex next_attempt_ = 0;
  std::optional<AttemptId> stale_log_;       // of an attempt that does not go on
  Instant due_;                              // when the next attempt became wanted
  Instant not_before_;                       // end of the backoff
  std::set<std::string> given_up_;           // jurisdictions waited for in vain
  std::set<SpiffeId> accused_;               // in this round, by a complaint that may be a lie
  std::set<SpiffeId> silent_;                // in this round, when others had paid
  std::map<std::string, LeftOut> left_out_;  // jurisdictions, of the rest of the job
  std::vector<Silence> silences_;
  std::vector<std::pair<std::string, std::string>> complaints_;  // accuser's and accused's jurisdictions
  std::map<SpiffeId, Region> regions_;
  std::unique_ptr<Attempt> attempt_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_CORE_JOB_MACHINE_H_
