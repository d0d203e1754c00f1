#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <optional>
#include <type_traits>

#include "cli/plan_view.h"
#include "common/files.h"
#include "policy/job_privacy.h"
#include "privacy/accounting/calibration.h"
#include "privacy/accounting/pld.h"
#include "privacy/accounting/subsampled_rdp.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

struct EpsilonOptions {
  std::string job;
  std::optional<double> sigma, epsilon, q, steps, delta;
  std::string relation;
  bool table = false;

  bool HasSetting() const { return sigma || epsilon || q || steps || delta || !relation.empty() || table; }
};

/// A job's epsilon by rounds, in its own unit.
Status RunJobEpsilon(Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, policy::kMaxJobFileBytes));
  ASSIGN_OR_RETURN(const policy::JobSpec job, policy::ParseJob(text, path));
  std::vector<uint32_t> counts = {1};
  for (uint64_t r = 2; r < job.rounds; r *= 2) counts.push_back(static_cast<uint32_t>(r));
  if (job.rounds > 1) counts.push_back(job.rounds);
  std::vector<std::vector<std::string>> rows;
  ordered_json json = ordered_json::array();
  PrivacyStatement end;
  for (uint32_t rounds : counts) {
    ASSIGN_OR_RETURN(end, policy::PlanStatement(job, rounds, job.cohort.minimum));
    json.push_back({{"rounds", rounds},
                    {"epsilon_local", NumberJson(end.epsilon_local)},
                    {"epsilon_distributed",
                     end.epsilon_distributed ? NumberJson(*end.epsilon_distributed) : ordered_json()}});
    rows.push_back({std::to_string(rounds), HumanEpsilon(end.epsilon_local),
                    end.epsilon_distributed ? HumanEpsilon(*end.epsilon_distributed) : "no claim"});
  }
  Output& out = context.output;
  out.Json({{"job_name", job.name},
            {"by_rounds", json},
            {"privacy", ToJson(end)},
            {"remarks", EpsilonRemarks(job, end)}});
  const auto& p = job.privacy;
  out.Say(fmt::format(
      "{}: unit {}, clip {:g}, noise multiplier {:g}, delta {:g}, cohort of {} (the smallest allowed)",
      job.name, PrivacyUnitText(p.unit), policy::IsPerUnit(job) ? p.unit_clip : p.clip, p.noise_multiplier,
      p.delta, job.cohort.minimum));
  if (policy::IsPerUnit(job)) out.Say(end.sampler);
  out.Table({"rounds", "epsilon against everyone", "with honest survivors"}, rows, {true, true, true});
  for (const auto& remark : EpsilonRemarks(job, end)) out.Say(remark);
  return OkStatus();
}

/// A setting of DP-SGD as the options give it.
struct Setting {
  SubsampledGaussian step;
  double delta = 0;
};

StatusOr<Setting> ReadSetting(const EpsilonOptions& o) {
  if (!o.delta)
    return InvalidArgument(
        "--delta is missing: the probability outside the bound, below one over the number of units");
  if (!(*o.delta >= 0) || !(*o.delta < 1))
    return InvalidArgument("--delta {}: expected a number from 0 to below 1, such as 1e-6", *o.delta);
  Setting s;
  s.delta = *o.delta;
  s.step.q = o.q.value_or(1);
  if (!(s.step.q >= 0) || !(s.step.q <= 1))
    return InvalidArgument(
        "--q {}: expected the probability with which a unit joins a batch, 0 to 1 (batch size / number of "
        "units)",
        *o.q);
  const double steps = o.steps.value_or(1);
  constexpr double kMost = 1e15;
  if (!(steps >= 0) || steps > kMost || steps != std::floor(steps))
    return InvalidArgument("--steps {}: expected a whole number from 0 to {:g}", steps, kMost);
  s.step.steps = static_cast<uint64_t>(steps);
  if (o.sigma && !(*o.sigma >= 0 && *o.sigma <= kMostSigma))
    return InvalidArgument("--sigma {}: expected noise / clip bound, a number from 0 to {:g}", *o.sigma,
                           kMostSigma);
  if (o.epsilon && (!(*o.epsilon > 0) || std::isinf(*o.epsilon)))
    return InvalidArgument("--epsilon {}: expected the target, a finite number of more than 0", *o.epsilon);
  s.step.sigma = o.sigma.value_or(0);
  return s;
}

template <typename Relation>
StatusOr<double> EpsilonOf(const SubsampledGaussian& step, double delta) {
  PldAccountant<Relation> accountant;
  RETURN_IF_ERROR(accountant.Add(step));
  return accountant.Epsilon(delta);
}

/// The curve: ε after 1, 2, 4, … steps, and at the end.
template <typename Relation>
StatusOr<std::vector<std::pair<uint64_t, double>>> Curve(const Setting& s, bool table) {
  std::vector<std::pair<uint64_t, double>> out;
  for (uint64_t n = 1; table && n < s.step.steps; n *= 2) out.emplace_back(n, 0);
  out.emplace_back(s.step.steps, 0);
  for (auto& [steps, epsilon] : out) {
    SubsampledGaussian part = s.step;
    part.steps = steps;
    ASSIGN_OR_RETURN(epsilon, EpsilonOf<Relation>(part, s.delta));
  }
  return out;
}

std::vector<std::string> Remarks(const Setting& s, double epsilon) {
  std::vector<std::string> out;
  if (std::isinf(epsilon))
    out.push_back(
        s.delta == 0
            ? "With Gaussian noise no epsilon holds at delta 0: give a small delta, such as 1e-6."
            : "Without noise there is no guarantee: raise --sigma, or name a target with --epsilon.");
  else if (epsilon > 10)
    out.push_back("An epsilon above 10 says next to nothing: read it as no guarantee.");
  if (auto remark = DeltaRemark(s.delta)) out.push_back(*std::move(remark));
  if (s.step.q < 1 && s.step.q > 0)
    out.push_back(
        "Holds for Poisson sampling only: every unit joins every batch independently. Shuffled batches cost "
        "more.");
  return out;
}

/// Six digits, never less.
std::string RoundedUp(double value) { return fmt::format("{:.6g}", value * (1 + 5e-6)); }

template <typename Relation>
Status RunSetting(Context& context, const EpsilonOptions& o) {
  ASSIGN_OR_RETURN(Setting s, ReadSetting(o));
  if (o.epsilon) {
    if (s.delta == 0)
      return InvalidArgument("--delta 0: no Gaussian noise reaches it; give a small one, such as 1e-6");
    ASSIGN_OR_RETURN(s.step.sigma, SampledSigmaFor<Relation>(*o.epsilon, s.delta, s.step.q, s.step.steps));
  }
  ASSIGN_OR_RETURN(const auto curve, Curve<Relation>(s, o.table));
  const double epsilon = curve.back().second;
  const double rdp = RdpEpsilon<Relation>(std::span(&s.step, 1), s.delta);
  const auto remarks = Remarks(s, epsilon);
  // Jobs for persons and records count units that are added or removed.
  std::optional<double> for_job;
  if (o.epsilon && std::is_same_v<Relation, AddRemove> && s.step.sigma > 0)
    for_job = policy::NoiseMultiplierFor(s.step.sigma);
  ordered_json by_steps = ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& [steps, e] : curve) {
    by_steps.push_back({{"steps", steps}, {"epsilon", NumberJson(e)}});
    rows.push_back({std::to_string(steps), HumanEpsilon(e)});
  }
  Output& out = context.output;
  out.Json({{"relation", Relation::kName},
            {"sigma", s.step.sigma},
            {"noise_multiplier", for_job ? ordered_json(*for_job) : ordered_json()},
            {"q", s.step.q},
            {"steps", s.step.steps},
            {"delta", s.delta},
            {"epsilon_target", o.epsilon ? ordered_json(*o.epsilon) : ordered_json()},
            {"epsilon", NumberJson(epsilon)},
            {"epsilon_rdp", NumberJson(rdp)},
            {"by_steps", by_steps},
            {"remarks", remarks}});
  if (o.epsilon) out.Say(fmt::format("sigma {} keeps epsilon {:g}", RoundedUp(s.step.sigma), *o.epsilon));
  if (for_job)
    out.Say(fmt::format(
        "in a job for persons or records with local noise: noise_multiplier {}, more because a step's two "
        "metrics are paid for too, sampling_rate {}, and {} steps in all rounds",
        RoundedUp(*for_job), s.step.q, s.step.steps));
  out.Say(fmt::format("epsilon {} at delta {:g}, {} neighbours: sigma {}, q {:g}, {} steps",
                      HumanEpsilon(epsilon), s.delta, Relation::kName,
                      o.epsilon ? RoundedUp(s.step.sigma) : fmt::format("{:.6g}", s.step.sigma), s.step.q,
                      s.step.steps));
  out.Say(fmt::format("  (a check: by Renyi divergence {}, never lower)", HumanEpsilon(rdp)));
  if (o.table) out.Table({"steps", "epsilon"}, rows, {true, true});
  for (const auto& remark : remarks) out.Say(remark);
  return OkStatus();
}

Status RunEpsilon(Context& context, const EpsilonOptions& o) {
  if (!o.job.empty()) {
    if (o.HasSetting())
      return InvalidArgument(
          "give a job file, or a setting (--sigma or --epsilon), not both: the job file says its own");
    return RunJobEpsilon(context, o.job);
  }
  if (!o.sigma && !o.epsilon)
    return InvalidArgument(
        "nothing to price: give a job file, or --sigma for the epsilon of a setting, or --epsilon for the "
        "sigma of a "
        "target (concordat epsilon --help)");
  if (o.sigma && o.epsilon)
    return InvalidArgument(
        "--sigma asks for the epsilon of a setting, --epsilon for the sigma of a target: give one");
  return o.relation == ReplaceOne::kName ? RunSetting<ReplaceOne>(context, o)
                                         : RunSetting<AddRemove>(context, o);
}

}  // namespace

void AddEpsilonVerb(CLI::App& app, Context& context) {
  auto o = std::make_shared<EpsilonOptions>();
  CLI::App* verb = app.add_subcommand(
      "epsilon",
      "what a job or a setting of DP-SGD costs in privacy, or the noise for a target; needs no coordinator");
  verb->footer(
      "Example: concordat epsilon job.yaml\n"
      "Example: concordat epsilon --sigma 1.5 --q 0.04 --steps 2250 --delta 1e-5 --table\n"
      "Example: concordat epsilon --epsilon 8 --q 0.04 --steps 2250 --delta 1e-5");
  verb->add_option("job", o->job, "a job file: its cost by rounds");
  verb->add_option("--sigma", o->sigma, "noise multiplier: standard deviation / clip bound");
  verb->add_option("--epsilon", o->epsilon, "target: asks for the least sigma that keeps it");
  verb->add_option("--q", o->q, "probability with which a unit joins a batch (default 1: all, every step)");
  verb->add_option("--steps", o->steps, "number of steps (default 1)");
  verb->add_option("--delta", o->delta, "probability outside the bound");
  verb->add_option("--relation", o->relation, "neighbours: add-remove (default) or replace-one")
      ->check(CLI::IsMember({std::string(AddRemove::kName), std::string(ReplaceOne::kName)}));
  verb->add_flag("--table", o->table, "epsilon after 1, 2, 4, ... steps too");
  verb->callback([&context, o] { context.run = [&context, o] { return RunEpsilon(context, *o); }; });
}

}  // namespace concordat::cli
