#ifndef CONCORDAT_WORKER_TRAIN_LEAK_AUDIT_H_
#define CONCORDAT_WORKER_TRAIN_LEAK_AUDIT_H_

#include <functional>
#include <span>
#include <vector>

#include "worker/model/canaries.h"
#include "worker/model/examples.h"
#include "worker/sandbox/channel.h"
#include "worker/train/engine.h"

namespace concordat::train {

/// What an adapter is held against. All views outlive the call.
struct LeakSubjects {
  std::vector<const model::Example*> members;      // one sequence of each document that was trained on
  std::vector<const model::Example*> non_members;  // one of each that was held out
  /// All sequences of all canaries and references, and which belong to which: `owner[i]` numbers the canaries
  /// of `set` first, then its references.
  const model::ExampleSet* planted = nullptr;
  std::vector<size_t> owner;
  const model::CanarySet* set = nullptr;
};

/// Reads every subject twice, with the bare base model and with `adapter`, and holds what the adapter gains
/// on each (nats a target token) against the others: canary exposure, membership inference, a one-run audit
/// (privacy/audit). Nothing about a single subject is kept or told. A figure for which there are too few
/// subjects (two on each side, one canary that was trained on, two canaries) is left out; InvalidArgument
/// when no figure is left. Other errors as Engine::Evaluate and AuditOneRun. Leaves the engine with
/// `adapter`. \param on_sequence called after each sequence with what it was; 2·(number of sequences) times.
StatusOr<sandbox::Audited> AuditLeaks(Engine& engine, std::span<const float> adapter,
                                      const LeakSubjects& subjects, const sandbox::Audit& task,
                                      const std::function<void(const StepResult&)>& on_sequence);

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_LEAK_AUDIT_H_
