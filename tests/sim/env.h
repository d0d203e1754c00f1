#ifndef CONCORDAT_TESTS_SIM_ENV_H_
#define CONCORDAT_TESTS_SIM_ENV_H_

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "privacy/secagg/coordinator_log.h"
#include "privacy/secagg/worker_round.h"
#include "tests/sim/disk.h"
#include "tests/sim/monitor.h"
#include "tests/sim/rng.h"
#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::sim {

using secagg::testing::World;

/// A piece of y_i. `t2` is not on the wire: the monitor wants to know under which masks it is.
struct Chunk {
  AttemptIndex attempt = 0;
  uint64_t offset = 0;
  Bytes bytes;
};
/// Bytes of the upload that the coordinator has.
struct Ack {
  AttemptIndex attempt = 0;
  uint64_t stored = 0;
};
/// The worker takes no further part in the attempt.
struct Dropout {
  AttemptIndex attempt = 0;
};
/// The coordinator has ended the attempt.
struct Abandoned {
  AttemptIndex attempt = 0;
};
using ToCoordinator = std::variant<secagg::WorkerMessage, Chunk, Dropout>;
using ToWorker = std::variant<std::shared_ptr<const secagg::CoordinatorMessage>, Ack, Abandoned>;

/// A mistake built into a node on purpose: the invariants must see it.
enum class Sabotage : uint8_t {
  kNone,
  kWorkerForgetsJournal,   // restarts as if it had never heard of the attempt
  kWorkerForgetsBegun,     // restores the record before "step 5 begun" and encodes again
  kWorkerSendsFirst,       // sends, then persists
  kWorkerChargesLate,      // charges when the upload is acknowledged
  kCoordinatorForgetsLog,  // restarts with the attempt's offer alone
  kCoordinatorSendsFirst,  // sends, then appends
};

/// What a node has around it.
class Env {
 public:
  virtual ~Env() = default;
  virtual Instant now() const = 0;
  virtual Rng& rng() = 0;
  virtual Monitor& monitor() = 0;
  virtual World& world() = 0;
  virtual Sabotage sabotage() const = 0;
  virtual AttemptIndex attempts_allowed() const = 0;
  /// How long the coordinator waits for a lost connection to come back before it counts its site as lost.
  virtual Millis patience() const = 0;
  /// Over the network, which may lose, delay, repeat and reorder it.
  virtual void SendToCoordinator(SiteIndex from, ToCoordinator message) = 0;
  virtual void SendToWorker(SiteIndex to, ToWorker message) = 0;
  /// Calls back at `when`, unless the node (0: the coordinator) has died in the meantime.
  virtual void CallAt(SiteIndex node, Instant when, std::function<void()> call) = 0;
  virtual void Trace(SiteIndex node, const std::string& line) = 0;
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_ENV_H_
