#ifndef CONCORDAT_WORKER_CORE_WORKER_CORE_H_
#define CONCORDAT_WORKER_CORE_WORKER_CORE_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "policy/charter.h"
#include "policy/ledger.h"
#include "policy/region_policy.h"
#include "privacy/secagg/peer_verifier.h"
#include "privacy/secagg/worker_round.h"
#include "worker/core/effects.h"
#include "worker/core/job_desk.h"
#include "worker/core/round_state.h"
#include "worker/core/trainer_desk.h"

namespace concordat::worker {

/// What a core rests on. Pointers are borrowed and must outlive it.
struct CoreParams {
  SpiffeId self;
  const crypto::SigningKey* key = nullptr;
  const secagg::PeerVerifier* peers = nullptr;
  RandomSource* random = nullptr;
  policy::Charter charter;
  Digest charter_hash;
  policy::RegionPolicy policy;
  policy::DatasetCard card;
  const policy::Ledger* ledger = nullptr;  // read only: the shell charges
  Digest base_model;                       // of the model that this region has
  ModelShape base_shape;                   // and what its file says of itself
  secagg::PairwiseKeys pairwise;           // with the workers of peers; empty: none
  DeskOptions desk;
  Millis rest_after{300'000};  // without live jobs, the trainer ends after this
};

/// How far a job is, as far as a worker knows. Numbers as on the operator's socket. A coordinator names every
/// job that waits or runs when a worker connects: one that it does not name then (kUnknown) has ended, unless
/// its notice is still under way.
enum class JobStage : uint8_t { kPlannedOnly = 1, kRunning = 2, kEnded = 3, kUnknown = 4 };

/// One job as the region's operator sees it.
struct JobStatus {
  JobId id;
  std::string name;
  SpiffeId submitter;
  JobAnswer answer;
  bool needs_approval = false;
  JobStage stage = JobStage::kPlannedOnly;
};

struct CoreStatus {
  Phase phase = Phase::kIdle;
  uint32_t permille = 0;
  AttemptId attempt;  // of the newest open attempt; zero when none is open
  double tokens_per_second = 0;
  double train_loss = 0;  // nats per token; stays in the region
  std::vector<JobStatus> jobs;
  std::optional<sandbox::Ready> trainer;
  bool trainer_barred = false;
  std::string last_error;
};

/// A region's worker: knows the jobs, checks every word of the coordinator, has the trainer train, and lets a
/// masked vector leave only once it is allowed, charged and on record.
///
///   JobNotice → answer;   Offer → advert, and training starts;   keys, delivery: secagg::WorkerRound
///   masks ready and delta trained → charge → "begun" on record → StartUpload → header → survivors →
///   agreement → unmask → result: sum fetched, adapter recomputed, ResultAck
///
/// An attempt is entered once. After a restart it is gone on with where it was, from its sealed state, if
/// that is the newest that was written and the job is still allowed; else this worker was lost in it: there
/// are never two answers to one question. The delta of a round serves all its attempts; rounding, noise and
/// charge are fresh each time.
///
/// A message of an attempt that is refused ends the attempt for this worker: keys erased, Dropout with the
/// refusal's code, message and signature kept as evidence. Messages of attempts that are not open change
/// nothing; they are answered with a Dropout, so that nobody waits. Pure: no clock, lock, file or thread; not
/// thread-safe. Every call returns what to do, see Effects.
class WorkerCore {
 public:
  /// InvalidArgument when the charter's coordinator has no usable key.
  /// \param journal what earlier processes recorded, in order
  /// \param sealed states of attempts that earlier processes were in, as they were sealed
  static StatusOr<std::unique_ptr<WorkerCore>> Make(CoreParams params, const std::vector<Record>& journal,
                                                    const std::vector<RoundSeal>& sealed = {});

  /// Call once, before all others: drops what no attempt needs any more.
  Effects OnStarted(Instant now);

  Effects OnConnected(Instant now);
  Effects OnDisconnected(Instant now);
  Effects OnMessage(const FromCoordinator& message, Instant now);
  Effects OnTrainer(const TrainerEvent& event, Instant now);
  Effects OnCharged(const ChargeOutcome& outcome, Instant now);
  Effects OnUpload(const UploadEvent& event, Instant now);
  Effects OnFetched(const Fetched& fetched, Instant now);
  Effects OnTimer(Instant now);
  /// Something of `failed` that had to be durable could not be written: every open attempt ends. Of `failed`
  /// only goodbyes are still carried out: they promise nothing, and nobody waits for this worker then.
  Effects OnStorageFailed(Effects failed, Instant now);
  /// The process is about to end in good order: keys are erased from memory. Open attempts stay sealed and
  /// on record, like those of a process that is killed: the next one goes on with them, if it comes in time.
  Effects OnShutdown(Instant now);
  struct DecisionReply {
    Effects effects;
    std::string text;  // what it did, for the operator
  };
  /// NotFound for a job that this worker does not know; FailedPrecondition when it is withdrawn already or
  /// the decision makes no sense there.
  StatusOr<DecisionReply> OnDecision(const JobId& id, Decision decision, Instant now);

  CoreStatus status() const;
  /// Whether `id` waits to be gone on with, and its upload with it.
  bool WaitsToUpload(const AttemptId& id) const;

 private:
  WorkerCore(CoreParams params, crypto::VerifyKey coordinator, const std::vector<Record>& journal);

  /// One attempt that is open here.
  struct Open {
    Open(const secagg::Signed<secagg::Offer>& signed_offer, secagg::WorkerRound machine,
         EncodingPlan encoding, LedgerCharge price)
        : offer(signed_offer),
          round(std::move(machine)),
          plan(std::move(encoding)),
          charge(std::move(price)) {}
    secagg::Signed<secagg::Offer> offer;
    secagg::WorkerRound round;
    EncodingPlan plan;
    LedgerCharge charge;
    std::optional<Instant> deadline;
    bool charging = false;
    bool uploading = false;
    uint64_t sent_bytes = 0;
    std::map<std::string, Evidence> accepted;  // by name: what a refused repeat contradicts
    std::optional<secagg::Result> result;      // verified; its sum is on the way
  };
  /// An attempt that an earlier process was in.
  struct Asleep {
    AttemptId id;
    RoundState state;
    std::optional<Instant> until;           // then it is given up
    std::vector<FromCoordinator> messages;  // came before it was awake
  };
  /// An adapter of a round that this worker missed, followed back to one that it knows.
  struct Walk {
    secagg::Signed<secagg::Offer> offer;
    std::shared_ptr<const AdapterBlob> newest;
    Digest next;            // hash of the blob that is on the way
    RoundIndex next_round;  // and its round
  };
  /// An evaluation request that is being answered.
  struct Evaluation {
    EvaluationRequest request;
    std::vector<std::optional<sandbox::Evaluated>> results;
    std::map<Digest, Floats> weights;  // as they arrive
    LedgerCharge charge;
    bool charging = false;
  };

  // worker_core.cc
  Effects Done(Instant now);
  void Say(LogLine::Level level, std::string text);
  void Apply(TrainerDesk::Out out, Instant now);
  void OnOutcome(TaskOutcome outcome, Instant now);
  void TellHealth(TrainerHealth before, Instant now);
  void BarFromTrainer(Job& job);
  DropoutCode AwayCode(const Job& job) const;
  void OnNotice(const JobNotice& notice, Instant now);
  void OnJobEnded(const JobEnded& ended, Instant now);
  StatusOr<Job> OpenNotice(const JobNotice& notice, Instant now) const;
  void Requote(Job& job, Instant now) const;
  void WarmUp(const Job& job, Instant now);
  Job* FindJob(const JobId& id);
  void Leave(const JobId& job, DropoutCode code, secagg::RefusalCode refusal, Instant now);
  void Close(const JobId& job);
  void TellProgress(bool always);
  std::optional<AttemptId> ActiveAttempt() const;
  Phase CurrentPhase() const;

  // worker_core_attempt.cc
  void OnOffer(const secagg::Signed<secagg::Offer>& offer, Instant now);
  void RefuseContradicting(const secagg::Signed<secagg::Offer>& offer, const Status& why);
  void NoteBegun(const AttemptId& id);
  Status CheckFollows(const AttemptId& id) const;
  Status CheckFresh(const Job& job, const secagg::Offer& offer) const;
  void Enter(Job& job, const secagg::Signed<secagg::Offer>& offer, Instant now);
  StatusOr<Open> MakeOpen(const Job& job, const secagg::Signed<secagg::Offer>& offer,
                          secagg::WorkerRound round) const;
  StatusOr<secagg::WorkerBounds> BoundsOf(const Job& job, const AttemptId& id) const;
  void RefuseOffer(const secagg::Signed<secagg::Offer>& offer, DropoutCode code, const Status& why);
  template <typename T>
  void OnRoundMessage(const secagg::Signed<T>& message, Instant now);
  void Carry(Open& open, secagg::WorkerEffects effects, Instant now);
  void Witness(LedgerWitness witness, const Digest& head);
  void TrainFor(Job& job, const secagg::Offer& offer, Instant now);
  void MayBegin(const JobId& job, Instant now);
  void Begin(const JobId& job, const ChargeOutcome& outcome, Instant now);
  void OnUploaded(const Uploaded& done, Instant now);
  void OnUploadEnded(const UploadEnded& ended, Instant now);
  const policy::LedgerEntry* PaidFor(const AttemptId& id) const;
  void Receipts(const AttemptId& id, uint64_t bytes, const Digest& sha256, Instant now);
  void Receive(policy::Receipt receipt, policy::ArtefactKind kind, policy::RuleCode rule, uint64_t bytes);
  void KeepAccepted(const std::map<std::string, Evidence>& accepted);
  void Keep(const Evidence& evidence);
  void KeepEvidence(const AttemptId& id, std::string_view name, Bytes body,
                    const crypto::Signature& signature);

  // worker_core_result.cc
  StatusOr<bool> HaveAdapter(Job& job, const secagg::Signed<secagg::Offer>& offer, Instant now);
  void OnResultSaid(Open& open, const secagg::Signed<secagg::Result>& message);
  void OnSecondResult(const secagg::Signed<secagg::Result>& message);
  const secagg::Signed<secagg::Result>* SaidOf(const AttemptId& id) const;
  bool AwaitsSum(const JobId& job) const;
  void ReleaseHeld(Instant now);
  void Halt(const JobId& id);
  static StatusOr<KnownAdapter> Remake(const Job& job, const Open& open, const Fetched& fetched);
  void OnSum(const JobId& job, const Fetched& fetched, Instant now);
  void OnWalk(const JobId& job, const Fetched& fetched, Instant now);
  Status StepWalk(Job& job, Walk& walk, const Fetched& fetched, bool* arrived);

  // worker_core_resume.cc
  void PutToSleep(const std::vector<RoundSeal>& sealed);
  const Asleep* FindAsleep(const AttemptId& id) const;
  void Wake(Job& job, const secagg::Signed<secagg::Offer>& offer, Instant now);
  void GoOn(Open& open, Asleep asleep, Instant now);
  bool KeepForLater(const AttemptId& id, const FromCoordinator& message);
  void GiveUp(const JobId& job);
  void GiveUpLate(Instant now);

  // worker_core_evaluation.cc
  void OnEvaluationRequest(const EvaluationRequest& request, Instant now);
  void OnEvaluationFetched(const Fetched& fetched, Instant now);
  void PriceEvaluation(LedgerCharge& charge, uint32_t models) const;
  void FailEvaluation(const EvaluateTask& task, std::string_view why);
  std::optional<sandbox::UnitBounds> BoundsOfUnit() const;
  StatusOr<std::vector<int64_t>> SiteFigures(const Evaluation& evaluation) const;
  StatusOr<std::vector<int64_t>> UnitFigures(const Evaluation& evaluation) const;
  StatusOr<std::vector<int64_t>> FiguresOf(const Evaluation& evaluation) const;
  void QueueEvaluation(Evaluation& evaluation, size_t index, Floats weights, Instant now);
  void OnEvaluated(const EvaluateTask& task, const StatusOr<TrainerSaid>& answer, Instant now);
  void ChargeEvaluation(const Digest& request, Instant now);
  void Release(const Digest& request, const ChargeOutcome& outcome, Instant now);
  void Answer(const JobId& job, EvaluationCell cell);
  void Withhold(const JobId& job, const Digest& request, policy::RuleCode rule);
  void WithholdAll(const Job& job);
  std::vector<policy::Refusal> ReleaseRefusals(const Job& job, const LedgerCharge& charge, Instant now) const;
  policy::SandboxState Sandbox() const;

  CoreParams p_;
  crypto::VerifyKey coordinator_;
  TrainerDesk desk_;
  Effects fx_;  // of the event at hand
  bool connected_ = false;
  bool stopping_ = false;
  std::optional<Instant> rest_at_;
  std::string last_error_;

  std::map<JobId, Job> jobs_;
  std::map<JobId, Open> open_;
  std::map<JobId, Asleep> asleep_;
  std::map<JobId, secagg::Signed<secagg::Offer>> held_;  // offers that wait for the sum of the round before
  std::map<JobId, Walk> walks_;
  std::map<Digest, Evaluation> evaluations_;
  std::vector<EvaluationCell> unsent_cells_;
  uint64_t refused_offers_kept_ = 0;
  std::map<JobId, uint64_t> evidence_bytes_;

  // From the journal, grown as it grows.
  std::set<AttemptId> entered_;
  std::map<AttemptId, StepTaken> steps_;  // the newest of each attempt that was not left
  std::map<std::pair<JobId, RoundIndex>, std::set<AttemptIndex>> begun_;  // paid for, or on their way
  std::map<JobId, JobStanding> standings_;
  std::map<JobId, std::map<RoundIndex, Digest>> chains_;
  std::map<JobId, secagg::Signed<secagg::Result>> said_;  // the newest result that the coordinator signed

  Phase told_phase_ = Phase::kIdle;
  uint32_t told_permille_ = 0;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_WORKER_CORE_H_
