#include "worker/train/leak_audit.h"

#include <cmath>

namespace concordat::train {
namespace {

/// Loss of a subject, over one sequence or several.
struct Loss {
  double nats = 0;
  uint64_t targets = 0;
  double mean() const { return targets == 0 ? 0 : nats / static_cast<double>(targets); }
};

/// All losses of one model.
struct Losses {
  std::vector<Loss> members, non_members, canaries;  // the last: canaries, then references
};

class Reader {
 public:
  Reader(Engine& engine, const LeakSubjects& subjects,
         const std::function<void(const StepResult&)>& on_sequence)
      : engine_(engine), subjects_(subjects), on_sequence_(on_sequence) {}

  StatusOr<Losses> Read(std::span<const float> adapter) {
    RETURN_IF_ERROR(engine_.SetAdapter(adapter));
    Losses out;
    for (const model::Example* e : subjects_.members) RETURN_IF_ERROR(Add(*e, out.members.emplace_back()));
    for (const model::Example* e : subjects_.non_members)
      RETURN_IF_ERROR(Add(*e, out.non_members.emplace_back()));
    if (subjects_.set == nullptr) return out;
    out.canaries.resize(subjects_.set->canaries.size() + subjects_.set->references.size());
    for (size_t i = 0; i < subjects_.owner.size(); ++i)
      RETURN_IF_ERROR(Add(subjects_.planted->examples[i], out.canaries[subjects_.owner[i]]));
    return out;
  }

 private:
  Status Add(const model::Example& example, Loss& loss) {
    ASSIGN_OR_RETURN(const StepResult result, engine_.Evaluate({example.tokens, example.target}));
    if (!std::isfinite(result.loss_sum))
      return InvalidArgument("audit: a loss is not finite: base model or adapter hold values that overflow");
    loss.nats += result.loss_sum;
    loss.targets += result.target_tokens;
    on_sequence_(result);
    return OkStatus();
  }

  Engine& engine_;
  const LeakSubjects& subjects_;
  const std::function<void(const StepResult&)>& on_sequence_;
};

/// What the adapter gains on each: the score of every attack here.
std::vector<double> Gains(const std::vector<Loss>& base, const std::vector<Loss>& adapted) {
  std::vector<double> out;
  out.reserve(base.size());
  for (size_t i = 0; i < base.size(); ++i) out.push_back(base[i].mean() - adapted[i].mean());
  return out;
}

Status HoldCanaries(const model::CanarySet& set, std::span<const double> gains, const sandbox::Audit& task,
                    sandbox::Audited& out) {
  const std::span<const double> canaries = gains.first(set.canaries.size());
  const std::span<const double> references = gains.subspan(set.canaries.size());
  std::vector<double> planted;
  std::vector<uint8_t> coins;
  for (size_t i = 0; i < canaries.size(); ++i) {
    coins.push_back(set.canaries[i].trained_on ? 1 : 0);
    if (set.canaries[i].trained_on) planted.push_back(canaries[i]);
  }
  if (!planted.empty() && !references.empty()) {
    ASSIGN_OR_RETURN(out.exposure, audit::MeasureExposure(planted, references));
  }
  if (canaries.size() >= 2) {
    ASSIGN_OR_RETURN(out.one_run, audit::AuditOneRun(canaries, coins, task.delta, task.confidence));
  }
  return OkStatus();
}

}  // namespace

StatusOr<sandbox::Audited> AuditLeaks(Engine& engine, std::span<const float> adapter,
                                      const LeakSubjects& subjects, const sandbox::Audit& task,
                                      const std::function<void(const StepResult&)>& on_sequence) {
  Reader reader(engine, subjects, on_sequence);
  const std::vector<float> bare(adapter.size());
  ASSIGN_OR_RETURN(const Losses base, reader.Read(bare));
  ASSIGN_OR_RETURN(const Losses adapted, reader.Read(adapter));
  sandbox::Audited out;
  const std::vector<double> in = Gains(base.members, adapted.members);
  const std::vector<double> held_out = Gains(base.non_members, adapted.non_members);
  if (in.size() >= 2 && held_out.size() >= 2) {
    ASSIGN_OR_RETURN(out.membership, audit::MeasureMembership(in, held_out));
  }
  if (subjects.set != nullptr)
    RETURN_IF_ERROR(HoldCanaries(*subjects.set, Gains(base.canaries, adapted.canaries), task, out));
  if (!out.membership && !out.exposure && !out.one_run)
    return InvalidArgument("audit: too few documents held out, and no canaries: there is nothing to compare");
  return out;
}

}  // namespace concordat::train
