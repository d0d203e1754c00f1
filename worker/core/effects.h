#ifndef CONCORDAT_WORKER_CORE_EFFECTS_H_
#define CONCORDAT_WORKER_CORE_EFFECTS_H_

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "policy/ledger_mark.h"
#include "policy/receipts.h"
#include "privacy/accounting/ledger_arithmetic.h"
#include "privacy/crypto/signature.h"
#include "privacy/mechanism/encoding.h"
#include "privacy/secagg/mask.h"
#include "worker/core/messages.h"
#include "worker/sandbox/channel.h"

// What the core hands to its shell, and what the shell reports back.
namespace concordat::worker {

/// Weights or a delta, shared and never changed. A delta is secret: it is wiped when the last owner goes.
using Floats = std::shared_ptr<const std::vector<float>>;

enum class Decision : uint8_t { kNone = 0, kApprove = 1, kDeny = 2, kPause = 3, kWithdraw = 4, kResume = 5 };
std::string_view DecisionName(Decision decision);

// ---- Records of the worker's journal: facts that must outlive the process.

/// (J, r, a) was entered: written before its advert leaves. It is never entered a second time: after a
/// restart it is gone on with from its sealed state, or this worker is lost in it.
struct AttemptEntered {
  AttemptId id;
};
/// A step was taken and `state` is what it led to: written, after the sealed state, before the step's message
/// leaves. A sealed state that is older than the newest of these was rolled back and is not used.
struct StepTaken {
  AttemptId id;
  uint8_t phase = 0;  // secagg::WorkerPhase
  Digest state;       // DigestOfState
};
/// The attempt is over here, its keys are erased.
struct AttemptLeft {
  AttemptId id;
};
/// The first byte of y_i may leave from here on.
struct InputBegun {
  AttemptId id;
};
/// This worker has made this adapter itself and it was the announced one.
struct AdapterVerified {
  JobId job;
  RoundIndex round = 0;
  Digest adapter;
};
/// What the operator said last about a job.
struct DecisionTaken {
  JobId job;
  Decision decision{};
};
/// A result did not recompute: nothing of this job runs here any more.
struct JobHalted {
  JobId job;
};
/// The coordinator has said what an attempt made, under its signature: written before the sum is fetched.
/// After a restart it is still checked against the sum, and against the offer that follows it.
struct ResultSaid {
  secagg::Signed<secagg::Result> message;
};
/// How far this region's ledger had come, seen from outside of it: a ledger that does not hold `mark` was put
/// back. With signatures: at least t sites have signed for a set of adverts in which this region's own says
/// so (they sign T2, which covers every advert). Without: this worker charged, and nothing has left yet.
struct LedgerWitness {
  AttemptId id;
  Digest bundle;  // TaggedHash of the bundle's body, or zero
  std::vector<std::pair<SiteIndex, crypto::Signature>> signatures;  // over (T2, U3), as the bundle has them
  policy::LedgerMark mark;
};
using Record = std::variant<AttemptEntered, InputBegun, AdapterVerified, DecisionTaken, JobHalted, StepTaken,
                            AttemptLeft, ResultSaid, LedgerWitness>;

/// All that is needed to go on with an attempt after a restart (round_state.h). Secret.
struct RoundSeal {
  AttemptId id;
  crypto::SecretText state;
};

/// A message that was refused, or the accepted one it contradicts, kept as evidence: canonical body and the
/// coordinator's signature over it.
struct Evidence {
  AttemptId id;
  std::string name;  // file name part, made of our own words
  Bytes body;
  crypto::Signature signature{};
};

// ---- Commands to the shell.

struct StartTrainer {};
/// Ends the process at once; nothing it still says counts.
struct StopTrainer {};
struct TellTrainer {
  sandbox::ToTrainer message;
  Floats weights;  // goes beside it in a sealed memfd; may be null
};

/// Encode, noise, mask, store and send y_i, block by block; each chunk is stored before it is sent, and a
/// retry sends the stored bytes. Masks and seed are wiped once y_i is stored.
struct StartUpload {
  AttemptId id;
  EncodingPlan plan;
  Floats delta;
  std::vector<double> metrics;
  Secret32 seed;
  std::vector<secagg::MaskKey> masks;
};
/// Goes on with an upload that an earlier process began: only if every block of y_i is stored and is what was
/// stored; else UploadEnded with Aborted. Nothing is ever made again.
struct ResumeUpload {
  AttemptId id;
  uint64_t elements = 0;
  uint32_t modulus_bits = kPlainBits;
  uint32_t sites = 1;  // of the roster, as in EncodingConfig
};
/// Of an upload that an earlier process began and nobody goes on with: what may have left is reported with
/// UploadEnded, and the file deleted.
struct RecoverUpload {
  AttemptId id;
};
/// Deletes an attempt's sealed state.
struct ForgetRound {
  AttemptId id;
};
/// Stops an upload and deletes what is stored. Every upload ends with exactly one Uploaded or UploadEnded.
struct CancelUpload {
  AttemptId id;
};
/// Gets a content-addressed file from the region's own store or from the coordinator; checks its hash; tries
/// again while the connection is down. Answered with Fetched.
struct Fetch {
  Digest sha256;
  uint64_t max_bytes = 0;
};
/// Keeps a verified adapter in the region's own store. Losing it only costs a download.
struct KeepAdapter {
  Digest sha256;
  std::shared_ptr<const Bytes> blob;
};
using Command = std::variant<StartTrainer, StopTrainer, TellTrainer, StartUpload, ResumeUpload, RecoverUpload,
                             ForgetRound, CancelUpload, Fetch, KeepAdapter>;

struct LogLine {
  enum class Level : uint8_t { kInfo, kWarning, kError };
  Level level = Level::kInfo;
  std::string text;  // names, counts and codes
};

/// What one event leads to, carried out in this order:
///   1. persist   `seals`, each sealed and fsynced in place of the attempt's last; `evidence`, one file for
///                each message; then `records`, appended and fsynced: what a record says has its proof on the
///                disk already. If any of it fails nothing else of this struct is carried out: it goes to
///                WorkerCore::OnStorageFailed, and what that says is carried out.
///   2. charge    `charges`, in the ledger, fsynced; each outcome goes back through OnCharged after this
///                struct is carried out.
///   3. receipts  signed, appended, fsynced.
///   4. send      `send`, in order, over the session; what cannot be sent is dropped.
///   5. command   `commands`, in order.
///   6. deadline  `wake`: call OnTimer then. Replaces the one before; empty: none.
///   7. publish   `log` to the region's log.
struct Effects {
  std::vector<RoundSeal> seals;
  std::vector<Record> records;
  std::vector<Evidence> evidence;
  std::vector<LedgerCharge> charges;
  std::vector<policy::Receipt> receipts;
  std::vector<ToCoordinator> send;
  std::vector<Command> commands;
  std::optional<Instant> wake;
  std::vector<LogLine> log;
};

// ---- Events from the shell.

/// What a charge added to ε. Infinity minus infinity is not a number: what is spent without bound stays so.
inline double CostOf(double before, double after) { return std::isinf(after) ? after : after - before; }

/// What the ledger did with a charge.
struct ChargeOutcome {
  AttemptId id;
  ChargeKind kind = ChargeKind::kDelta;
  Status status;
  double epsilon_before = 0;
  double epsilon_after = 0;
  Digest ledger_head;
};

struct TrainerSaid {
  sandbox::FromTrainer message;
  Floats weights;  // with Trained
};
/// The process ended or broke the channel's rules.
struct TrainerGone {
  std::string why;  // made from names and numbers
};
using TrainerEvent = std::variant<TrainerSaid, TrainerGone>;

struct UploadProgress {
  AttemptId id;
  uint64_t sent_bytes = 0;
  uint64_t total_bytes = 0;
};
/// Every chunk is stored at the coordinator.
struct Uploaded {
  AttemptId id;
  uint64_t elements = 0;
  uint64_t bytes = 0;
  Digest sha256;  // of y_i as it was sent
};
/// The upload ended early. `left_bytes` of y_i had left, whose SHA-256 is `sha256`.
struct UploadEnded {
  AttemptId id;
  /// ResourceExhausted, DataLoss: the region's own disk. FailedPrecondition: cancelled, or the coordinator
  /// takes no more of it. Aborted: it was not whole when an earlier process ended.
  Status status;
  uint64_t left_bytes = 0;
  Digest sha256;
};
using UploadEvent = std::variant<UploadProgress, Uploaded, UploadEnded>;

struct Fetched {
  Digest sha256;
  StatusOr<Bytes> content;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_EFFECTS_H_
