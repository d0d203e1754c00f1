#ifndef CONCORDAT_WORKER_SANDBOX_CHANNEL_H_
#define CONCORDAT_WORKER_SANDBOX_CHANNEL_H_

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/files.h"
#include "common/status.h"
#include "privacy/audit/exposure.h"
#include "privacy/audit/membership.h"
#include "privacy/audit/one_run.h"

// What the trainer (data, no network) and the worker (network, no data) may say to each other: this closed
// set, over one inherited SOCK_SEQPACKET socketpair, weights in sealed memfds passed beside a message. No
// message from the trainer carries text, tokens or records.
namespace concordat::sandbox {

/// What DP-SGD protects. The numbers are those of PrivacyUnit.
enum class TrainedUnit : uint8_t { kPerson = 2, kRecord = 3 };

/// What a dataset's card promises to each person or record.
struct UnitPromise {
  TrainedUnit unit = TrainedUnit::kRecord;
  double delta = 0;  // at least 1/units is refused
};

/// Worker to trainer, first: what to open before locking down.
struct Configure {
  std::string base_model;    // path
  Digest base_model_sha256;  // checked by the trainer
  std::string dataset;       // path
  uint8_t dataset_kind = 0;  // 0: JSONL, 1: folder of text
  std::string person_field;  // of each record, names its person; empty: persons are not told apart
  std::optional<UnitPromise> promise = std::nullopt;  // none: the card protects the site
  Digest split_key;                                   // keyed hash that splits documents
  uint32_t held_out_permille = 0;
  uint32_t canaries = 0;  // made-up records to plant (model::MakeCanaries); 0: none
  Digest canary_key;      // that they are made from
  std::string device;     // "cpu" or "cuda:N"
  uint32_t threads = 0;   // 0: all
  uint8_t dtype = 0;      // 0: by the machine, 1: f32, 2: bf16
  bool sandbox_required = true;
  std::string scratch;  // the only folder the trainer may write, may be empty
};

/// Worker to trainer, once for each job: shapes and length; allocates.
struct Prepare {
  ModelShape shape;
  LoraSpec adapter;
  uint32_t sequence_tokens = 0;
  bool may_be_empty = false;  // a region without anything to train on hands in noise alone
};

/// One sum that the worker adds noise to, instead of steps that end with it: every unit once, no noise, no
/// step of an optimizer.
struct UnitSum {
  double grid = 0;            // γ, of the gradients
  uint32_t largest = 0;       // what each integer is clamped to
  uint32_t metric_units = 0;  // what one unit adds at most to each figure, at least 1
};

/// How one round of DP-SGD protects persons or records: public numbers of the job. The trainer draws sampling
/// and noise from the operating system, and neither ever leaves it.
struct UnitPrivacy {
  using Unit = TrainedUnit;
  Unit unit = Unit::kRecord;
  double clip = 0;                      // C, L2 bound on one unit's gradient
  double noise_multiplier = 0;          // z of the gradient; 0: no noise, no promise
  double sampling_rate = 0;             // q of each unit in each step, 0 to 1
  double expected_units = 0;            // a step's divisor, public
  double metrics_noise_multiplier = 0;  // z_m of each of the two figures
  double loss_bound = 0;                // nats per token, clipped per unit
  double delta = 0;                     // of the job; at least 1/units is refused
  /// Then the two noise multipliers are not used, and sampling_rate is 1.
  std::optional<UnitSum> sum = std::nullopt;
};

/// Worker to trainer, with the adapter's flat f32 vector in a sealed memfd.
struct Train {
  uint64_t seed = 0;
  uint32_t round = 0;
  uint32_t local_steps = 0;
  uint32_t batch_sequences = 0;
  double learning_rate = 0;
  double weight_decay = 0;
  double beta2 = 0;
  double gradient_clip = 0;
  std::optional<UnitPrivacy> privacy = std::nullopt;  // with it: DP-SGD; gradient_clip is not used
};

/// What one person or record may add to an evaluation's sums: public numbers of the region's policy.
struct UnitBounds {
  UnitPrivacy::Unit unit = UnitPrivacy::Unit::kRecord;
  uint32_t bytes = 0;        // of text, at least 1; a unit with more counts in proportion
  double bits_per_byte = 0;  // more than 0
  uint32_t bit_units = 0;    // integers for each bit, at least 1
};

/// Worker to trainer, with an adapter in a memfd, or without one for the bare base model.
struct Evaluate {
  bool with_adapter = false;
  uint32_t max_documents = 0;
  std::optional<UnitBounds> bounds = std::nullopt;  // asks for UnitSums; all documents are read then
};

/// Command to trainer, with an adapter in a memfd: what does it give away of single records?
struct Audit {
  uint32_t max_documents = 0;  // of members, and as many of those held out; 0: all
  double delta = 0;            // of the bound on epsilon
  double confidence = 0;       // of the bound on epsilon, 0 to 1, neither of them
};

/// Worker to trainer: end after the answer that is due.
struct Stop {};

/// Trainer to worker after Configure, once it is locked down and has read the data.
struct Ready {
  enum class Lockdown : uint8_t { kNone = 0, kSeccompOnly = 1, kFull = 2 };
  Lockdown lockdown{};
  ModelShape shape;
  uint64_t train_documents = 0;
  uint64_t held_out_documents = 0;
  uint64_t train_bytes = 0;
  uint64_t train_units = 0;  // persons or records to train on (Configure::promise); without a promise 0
};
struct Prepared {};

/// Trainer to worker, now and then while it trains or evaluates. Stays in the region.
struct TrainerProgress {
  uint32_t permille = 0;
  double tokens_per_second = 0;
  double loss = 0;  // nats per token, mean over the round so far
};

/// Figures of a round in integers, to each of which a unit adds from 0 to UnitSum::metric_units: ready for
/// noise.
struct RoundSums {
  int64_t loss = 0;     // metric_units for each unit's loss_bound · sequence_tokens
  int64_t targets = 0;  // metric_units for each sequence_tokens
};

/// Trainer to worker, with the flat f32 delta (layout order) in a sealed memfd. With UnitPrivacy the delta,
/// the loss and the target tokens have their noise; the rest never crosses a border. With a UnitSum
/// nothing has: in place of the delta come integers, the negative sum of the clipped gradients.
struct Trained {
  double mean_loss = 0;  // nats per target token over the round
  uint64_t target_tokens = 0;
  uint64_t tokens = 0;
  double seconds = 0;
  uint64_t steps = 0;
  std::optional<RoundSums> sums = std::nullopt;  // with a UnitSum
};

/// Integers that one unit moves by at most its UnitBounds, ready for noise.
struct UnitSums {
  int64_t bits = 0;  // times bit_units
  int64_t bytes = 0;
};

/// Trainer to worker. Sums over held-out documents, each clipped by the worker's later rules.
struct Evaluated {
  double bits_per_byte = 0;   // total bits / total bytes
  double standard_error = 0;  // of bits_per_byte over documents (ratio estimator)
  uint64_t documents = 0;
  uint64_t bytes = 0;
  double seconds = 0;
  std::optional<UnitSums> sums = std::nullopt;
};

/// Trainer to command: figures over many records and canaries, exact. They stay in the region; of no record
/// and no canary is told how it scored. What there are too few records for is left out.
struct Audited {
  std::optional<audit::Membership> membership;
  std::optional<audit::Exposure> exposure;  // none without canaries
  std::optional<audit::OneRunAudit> one_run;
  double seconds = 0;
};

/// Trainer to worker: the last command failed. The text is made by our code from names and counts, never
/// data.
struct Failed {
  uint8_t code = 0;  // StatusCode
  std::string what;  // at most 1000 bytes
};

using ToTrainer = std::variant<Configure, Prepare, Train, Evaluate, Audit, Stop>;
using FromTrainer = std::variant<Ready, Prepared, TrainerProgress, Trained, Evaluated, Audited, Failed>;

/// A message with the sealed memfd that came beside it, if any.
template <typename T>
struct Parcel {
  T message;
  FileDescriptor memory;  // sealed, or invalid
};

Bytes Encode(const ToTrainer& message);
Bytes Encode(const FromTrainer& message);
/// InvalidArgument on anything malformed; hostile input is expected (the trainer reads records).
StatusOr<ToTrainer> DecodeToTrainer(ByteView bytes);
StatusOr<FromTrainer> DecodeFromTrainer(ByteView bytes);

/// One end of the socketpair. Blocking; one thread for each direction.
class Channel {
 public:
  explicit Channel(FileDescriptor socket) : socket_(std::move(socket)) {}
  Status Send(const Bytes& message, int memory_fd = -1);
  /// Unavailable when the other end is gone. \param timeout_ms -1 waits forever; Unavailable "timed out"
  /// otherwise.
  StatusOr<std::pair<Bytes, FileDescriptor>> Receive(int timeout_ms = -1);
  int fd() const { return socket_.get(); }

 private:
  FileDescriptor socket_;
};

/// Seals a memfd against writing, growing and shrinking, for good. The kernel says "busy" while somebody can
/// still write a page, and also while it holds one itself for a moment (compaction, sampling of accesses):
/// such a moment passes and is waited for. Unavailable, or as errno says, when it does not.
Status SealMemory(int fd, std::chrono::milliseconds patience = std::chrono::seconds(10));
/// A memfd with these floats, sealed against writing, growing and shrinking.
StatusOr<FileDescriptor> SealFloats(std::span<const float> values);
/// Maps a received memfd: InvalidArgument unless it is sealed and holds exactly `expected` finite-or-not
/// floats.
StatusOr<std::unique_ptr<MappedFile>> OpenSealed(int fd, uint64_t expected);

}  // namespace concordat::sandbox

#endif  // CONCORDAT_WORKER_SANDBOX_CHANNEL_H_
