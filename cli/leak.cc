#include "cli/leak.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/adapter_chain.h"
#include "cli/certificate_file.h"
#include "cli/released_privacy.h"
#include "cli/trainer_interview.h"
#include "common/files.h"
#include "policy/region_policy.h"
#include "privacy/accounting/privacy_unit.h"
#include "worker/rpc/setup.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr Millis kPatience{600'000};  // a large model or dataset is read in one go

/// The region's files, and its trainer's program.
struct Region {
  policy::WorkerConfig config;
  policy::RegionPolicy policy;
  policy::DatasetCard card;
  worker::TrainerSecrets secrets;
  std::string worker;  // SPIFFE ID
};

StatusOr<Region> LoadRegion(const std::string& worker_file) {
  Region region;
  ASSIGN_OR_RETURN(region.config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(region.policy, policy::LoadRegionPolicy(region.config.policy.string()));
  ASSIGN_OR_RETURN(region.card, policy::LoadDatasetCard(region.config.dataset_card.string()));
  RETURN_IF_ERROR(worker::CheckApart(region.config, region.card));
  ASSIGN_OR_RETURN(region.secrets.split_key, worker::ReadSplitKey(region.card.split_key));
  ASSIGN_OR_RETURN(region.secrets.canary_key, worker::ReadCanaryKey(region.card));
  ASSIGN_OR_RETURN(const CertificateFile own, ReadCertificateFile(region.config.certificate));
  ASSIGN_OR_RETURN(const SpiffeId id, own.leaf.spiffe_id());
  region.worker = id.ToString();
  return region;
}

uint32_t RoundsOf(const std::string& worker, const ChainRecord& record) {
  return static_cast<uint32_t>(std::ranges::count_if(record.rounds, [&](const ChainRound& round) {
    return std::ranges::find(round.survivors, worker) != round.survivors.end();
  }));
}

StatusOr<sandbox::Audited> AskTrainer(Context& context, const Region& region, const VerifiedAdapter& adapter,
                                      const sandbox::Audit& audit) {
  ScratchFolder scratch;
  RETURN_IF_ERROR(scratch.Make());
  // The job's base model: with another one the trainer refuses.
  sandbox::Configure configure = worker::ConfigureTrainer(region.config, region.policy, region.card,
                                                          region.secrets, adapter.job.base_model.sha256);
  configure.scratch = scratch.path().string();
  configure.promise
      .reset();  // nothing is charged: a dataset that has outgrown its delta can still be looked at
  Output& out = context.output;
  TrainerInterview interview(
      TrainerOf(region.config), scratch.path(), kPatience, [&out](const sandbox::TrainerProgress& p) {
        if (out.terminal())
          out.Redraw({fmt::format("reading twice, with and without the adapter: {}%", p.permille / 10)});
      });
  RETURN_IF_ERROR(interview.Start());
  RETURN_IF_ERROR(interview.AskFor<sandbox::Ready>(configure).status());
  const sandbox::Prepare prepare{adapter.job.base_model.shape, adapter.job.adapter,
                                 adapter.job.training.sequence_tokens};
  RETURN_IF_ERROR(interview.AskFor<sandbox::Prepared>(prepare).status());
  return interview.AskFor<sandbox::Audited>(audit,
                                            std::make_shared<const std::vector<float>>(adapter.blob.weights));
}

ordered_json Optional(const std::optional<double>& value) {
  return value ? NumberJson(*value) : ordered_json();
}

void ShowCanaries(const audit::Exposure& e, Output& out) {
  out.Say(fmt::format(
      "canaries    mean exposure {:.2f} bits, median {:.2f}, most {:.2f}; {} trained on, {} references; "
      "without training {:.2f}, and above {:.2f} they count as found",
      e.mean, e.median, e.most, e.planted, e.references, audit::kNullExposure, e.flag));
}

void ShowMembership(const audit::Membership& m, Output& out) {
  const std::string tpr = m.tpr_at_1_percent ? fmt::format("{:.3f}", *m.tpr_at_1_percent)
                                             : "not measured (fewer than 100 held out)";
  out.Say(fmt::format(
      "membership  AUC {:.3f} ± {:.3f} over {} trained on and {} held out: {}; TPR at 1% FPR {}", m.auc,
      m.standard_error, m.members, m.non_members, m.told_apart() ? "told apart" : "not told apart", tpr));
}

void ShowAudit(const audit::OneRunAudit& a, Output& out) {
  out.Say(fmt::format(
      "audit       epsilon at least {:.2f} at {:g}% confidence, delta {:g}: {} of {} guesses right, {} "
      "canaries; with every guess right it would say {:.2f}, and it cannot see beyond",
      a.epsilon, 100 * a.confidence, a.delta, a.correct, a.guesses, a.canaries, a.ceiling));
}

}  // namespace

StatusOr<ClaimedPrivacy> ReadClaim(const std::string& adapter_folder) {
  const std::string file = (std::filesystem::path(adapter_folder) / kPrivacyFile).string();
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file, kMaxPrivacyBytes));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const auto bad = [&](std::string_view what) { return InvalidArgument("{}: {}", file, what); };
  if (!json.is_object()) return bad("expected a JSON object");
  ClaimedPrivacy claim;
  const auto unit = json.find("unit");
  if (unit == json.end() || !unit->is_string()) return bad("unit: expected text");
  claim.unit = Printable(unit->get<std::string>(), 40);
  const auto delta = json.find("delta");
  if (delta == json.end() || !delta->is_number()) return bad("delta: expected a number from 0 to 1");
  claim.delta = delta->get<double>();
  if (!(claim.delta >= 0 && claim.delta <= 1)) return bad("delta: expected a number from 0 to 1");
  const auto epsilon = json.find("epsilon_local");
  double value = std::numeric_limits<double>::infinity();
  if (epsilon == json.end() || !(epsilon->is_number() || *epsilon == "infinity"))
    return bad("epsilon_local: expected a number, or \"infinity\"");
  if (epsilon->is_number()) value = epsilon->get<double>();
  if (!(value >= 0)) return bad("epsilon_local: expected at least 0");
  if (claim.unit != PrivacyUnitText(PrivacyUnit::kSite)) claim.epsilon = value;
  return claim;
}

ordered_json ToJson(const LeakReport& r) {
  const auto& membership = r.found.membership;
  const auto& exposure = r.found.exposure;
  const auto& one_run = r.found.one_run;
  ordered_json json = {{"job", r.job.hex()},           {"name", r.name},
                       {"adapter", r.adapter.hex()},   {"rounds_done", r.rounds},
                       {"rounds_here", r.rounds_here}, {"region", r.worker},
                       {"dataset", r.dataset}};
  const auto put = [&json](const char* key, const auto& from, auto member) {
    json[key] = from ? ordered_json((*from).*member) : ordered_json();
  };
  using audit::Exposure;
  using audit::Membership;
  using audit::OneRunAudit;
  put("members", membership, &Membership::members);
  put("non_members", membership, &Membership::non_members);
  put("auc", membership, &Membership::auc);
  put("auc_standard_error", membership, &Membership::standard_error);
  json["tpr_at_1_percent_fpr"] = Optional(membership ? membership->tpr_at_1_percent : std::nullopt);
  json["members_told_apart"] = membership ? ordered_json(membership->told_apart()) : ordered_json();
  put("canaries", one_run, &OneRunAudit::canaries);
  put("canaries_trained_on", exposure, &Exposure::planted);
  put("references", exposure, &Exposure::references);
  put("exposure_mean", exposure, &Exposure::mean);
  put("exposure_median", exposure, &Exposure::median);
  put("exposure_most", exposure, &Exposure::most);
  put("exposure_flag", exposure, &Exposure::flag);
  json["canaries_found"] = exposure ? ordered_json(r.canaries_found()) : ordered_json();
  put("guesses", one_run, &OneRunAudit::guesses);
  put("correct", one_run, &OneRunAudit::correct);
  put("confidence", one_run, &OneRunAudit::confidence);
  put("epsilon_audited", one_run, &OneRunAudit::epsilon);
  put("epsilon_audited_ceiling", one_run, &OneRunAudit::ceiling);
  json["unit"] = r.claim.unit;
  json["delta"] = r.claim.delta;
  json["epsilon_claimed"] = Optional(r.claim.epsilon);
  json["above_claim"] = r.found.one_run && r.claim.epsilon ? ordered_json(r.above_claim()) : ordered_json();
  json["seconds"] = r.found.seconds;
  return json;
}

void Show(const LeakReport& r, Output& out) {
  out.Say(fmt::format("adapter {} of {} after {} rounds, {} of them with this region; dataset {}",
                      r.adapter.brief(), r.name, r.rounds, r.rounds_here, r.dataset));
  if (r.found.exposure) ShowCanaries(*r.found.exposure, out);
  if (!r.found.one_run)
    out.Say(
        "canaries    none: the dataset card plants none (concordat region canaries), and no audit is "
        "possible");
  if (r.found.membership)
    ShowMembership(*r.found.membership, out);
  else
    out.Say("membership  not measured: too few documents held out or trained on");
  if (r.found.one_run) ShowAudit(*r.found.one_run, out);
  out.Say(r.claim.epsilon
              ? fmt::format("claimed     epsilon {} for a {}, delta {:g} (privacy.json)",
                            HumanEpsilon(*r.claim.epsilon), r.claim.unit, r.claim.delta)
              : fmt::format("claimed     nothing for a single record: the unit is a {}", r.claim.unit));
  if (r.canaries_found())
    out.Say(out.Paint("CANARIES FOUND: this adapter gives away records that it was trained on",
                      Output::Style::kBad));
  if (r.above_claim())
    out.Say(
        out.Paint("AUDITED EPSILON IS ABOVE THE CLAIMED ONE: the claim does not hold", Output::Style::kBad));
  if (!r.canaries_found() && !r.above_claim())
    out.Say(r.found.one_run ? "nothing found: that is no proof, only an attack that failed"
                            : "nothing was planted that could be found");
}

Status RunLeakAudit(Context& context, const LeakOptions& options) {
  ASSIGN_OR_RETURN(const Region region, LoadRegion(options.worker));
  ASSIGN_OR_RETURN(const AdapterFolder folder, ReadAdapterFolder(options.adapter));
  ASSIGN_OR_RETURN(const VerifiedAdapter adapter, VerifyAdapterFolder(options.adapter));
  LeakReport report;
  ASSIGN_OR_RETURN(report.claim, ReadClaim(options.adapter));
  report.job = folder.record.job;
  report.name = Printable(adapter.job.name, 63);
  report.adapter = adapter.hash;
  report.worker = region.worker;
  report.dataset = region.card.name;
  report.rounds = folder.rounds;
  report.rounds_here = RoundsOf(region.worker, folder.record);
  if (report.rounds_here == 0)
    return FailedPrecondition("{} took part in no round of this adapter: none of its records can be in it",
                              region.worker);
  const auto found =
      AskTrainer(context, region, adapter, {options.documents, report.claim.delta, options.confidence});
  if (context.output.terminal()) context.output.Redraw({});
  if (!found.ok()) return Annotate(found.status(), "trainer");
  report.found = *found;
  context.output.Json(ToJson(report));
  Show(report, context.output);
  if (report.canaries_found() || report.above_claim()) context.exit = ExitCode::kFailed;
  return OkStatus();
}

}  // namespace concordat::cli
