#include "policy/region_policy.h"

#include <algorithm>

#include "common/files.h"
#include "policy/yaml_fields.h"

// Reads the file. What it forbids is in region_rules.cc.
namespace concordat::policy {
namespace {

uint32_t Whole(YamlMap& map, std::string_view key, int64_t min, int64_t max) {
  return static_cast<uint32_t>(map.Integer(key, min, max));
}

bool ReadAllow(YamlMap& map, std::string_view key) { return map.Choice(key, {"deny", "allow"}) == 1; }

template <typename T>
auto OneOf(std::vector<std::pair<std::string_view, T>> choices) {
  return [choices = std::move(choices)](std::string_view text) -> StatusOr<T> {
    std::string names;
    for (const auto& [name, value] : choices) {
      if (name == text) return value;
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return InvalidArgument("expected one of: {}", names);
  };
}

void ReadDeadlines(YamlMap map, RegionPolicy::Deadlines* out) {
  const auto read = [&](std::string_view key, uint32_t secagg::Deadlines::*field) {
    YamlMap range = map.Map(key);
    constexpr int64_t kMax = 14LL * 24 * 3600 * 1000;
    out->minimum.*field = static_cast<uint32_t>(range.DurationMillis("min", 1, kMax));
    out->maximum.*field = static_cast<uint32_t>(range.DurationMillis("max", 1, kMax));
    if (range.present() && out->minimum.*field > out->maximum.*field) {
      range.Mistake("max", "expected at least min");
    }
  };
  read("advert", &secagg::Deadlines::advert_ms);
  read("shares", &secagg::Deadlines::shares_ms);
  read("input", &secagg::Deadlines::input_ms);
  read("agreement", &secagg::Deadlines::agreement_ms);
  read("unmask", &secagg::Deadlines::unmask_ms);
}

void ReadEvaluation(YamlMap map, RegionPolicy::Artefacts::Evaluation* out) {
  out->release = ReadAllow(map, "release");
  if (!out->release) {
    // What is denied needs no figures, but a policy that has them keeps them for the day it allows.
    out->bound_bits_per_byte = map.NumberOr("bound_bits_per_byte", 0, 0, 64);
    out->noise_stddev = map.NumberOr("noise_stddev", 0, 0, 64);
    out->unit_noise_multiplier = map.NumberOr("unit_noise_multiplier", 0, 0, 1e6);
    out->unit_bytes = static_cast<uint32_t>(map.IntegerOr("unit_bytes", 4096, 1, 1 << 24));
    out->max_requests = static_cast<uint32_t>(map.IntegerOr("max_requests", 0, 0, 1000000));
    return;
  }
  out->unit_noise_multiplier = map.NumberOr("unit_noise_multiplier", 0, 0, 1e6);
  out->unit_bytes = static_cast<uint32_t>(map.IntegerOr("unit_bytes", 4096, 1, 1 << 24));
  if (out->unit_noise_multiplier > 0 && out->unit_noise_multiplier < 0.01)
    map.Mistake("unit_noise_multiplier", "expected 0, which withholds, or at least 0.01");
  out->bound_bits_per_byte = map.Number("bound_bits_per_byte", 1e-3, 64);
  out->noise_stddev = map.Number("noise_stddev", 0, 64);
  out->max_requests = Whole(map, "max_requests", 1, 1000000);
  if (map.present() && map.Has("noise_stddev") && out->noise_stddev > 0 && !EvaluationVariance(*out).ok()) {
    map.Mistake("noise_stddev", "expected 0, or 1e-9 to 1 bits per byte");
  }
}

void ReadCohort(YamlMap map, RegionPolicy::Cohort* out) {
  out->min_sites = Whole(map, "min_sites", 3, kMaxSites);
  out->min_survivors = Whole(map, "min_survivors", 3, kMaxSites);
  out->min_honest = Whole(map, "min_honest", 2, kMaxSites);
  out->min_colluding = static_cast<uint32_t>(map.IntegerOr("min_colluding", 1, 1, kMaxSites));
  out->max_attempts_per_round = Whole(map, "max_attempts_per_round", 1, JobSpec::Cohort::kMostAttempts);
  if (map.present() && out->min_survivors > out->min_sites) {
    map.Mistake("min_survivors", fmt::format("expected at most min_sites = {}", out->min_sites));
  }
}

void ReadPrivacy(YamlMap map, RegionPolicy::Privacy* out) {
  out->max_clip = map.Number("max_clip", 1e-9, 1e9);
  out->min_noise_multiplier = map.Number("min_noise_multiplier", 0, 1e6);
  out->min_metrics_noise_multiplier =
      map.NumberOr("min_metrics_noise_multiplier", std::min(out->min_noise_multiplier, 60.0), 0, 60);
  out->max_delta = map.Number("max_delta", 1e-18, 0.5);
  out->noise =
      ReadList<NoisePlacement>(map, "noise", 1, 2,
                               OneOf<NoisePlacement>({{"local", NoisePlacement::kLocal},
                                                      {"distributed", NoisePlacement::kDistributed}}));
  out->rounding = ReadList<RoundingMode>(
      map, "rounding", 1, 2,
      OneOf<RoundingMode>({{"stochastic", RoundingMode::kStochastic}, {"nearest", RoundingMode::kNearest}}));
  // Older files do not know the packed mode, and what a file does not allow is denied.
  if (map.Has("modulus_bits"))
    out->modulus_bits = ReadList<uint32_t>(map, "modulus_bits", 1, 2,
                                           OneOf<uint32_t>({{"32", kPlainBits}, {"24", kPackedBits}}));
}

}  // namespace

StatusOr<SubmitterPattern> SubmitterPattern::Parse(std::string_view text) {
  static constexpr std::string_view kAll = "/operator/*";
  static constexpr std::string_view kScheme = "spiffe://";
  SubmitterPattern out;
  if (text.ends_with(kAll) && text.starts_with(kScheme)) {
    const std::string_view jurisdiction =
        text.substr(kScheme.size(), text.size() - kScheme.size() - kAll.size());
    if (IsName(jurisdiction)) return SubmitterPattern{std::string(jurisdiction), "*"};
  }
  const auto id = SpiffeId::Parse(text);
  if (!id.ok() || id->role() != Role::kOperator) {
    return InvalidArgument(
        "expected spiffe://<jurisdiction>/operator/<name>, or /operator/* for all of them");
  }
  return SubmitterPattern{id->jurisdiction(), id->name()};
}

bool SubmitterPattern::Matches(const SpiffeId& id) const {
  return id.role() == Role::kOperator && id.jurisdiction() == jurisdiction &&
         (name == "*" || id.name() == name);
}

StatusOr<RegionPolicy> ParseRegionPolicy(std::string_view text, std::string_view file_name) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  RegionPolicy policy;
  policy.submitters = ReadList<SubmitterPattern>(root, "submitters", 0, 1000, SubmitterPattern::Parse);
  for (YamlMap& map : root.Maps("base_models", 0, 1000)) {
    policy.base_models.push_back({ReadDigest(map, "sha256"), map.Text("license", 64)});
  }
  YamlMap adapters = root.Map("adapters");
  std::vector<std::pair<std::string_view, LoraMethod>> methods;
  for (const LoraMethod method : kAllLoraMethods) methods.emplace_back(LoraMethodName(method), method);
  policy.adapters.methods =
      ReadList<LoraMethod>(adapters, "methods", 1, methods.size(), OneOf<LoraMethod>(methods));
  policy.adapters.targets =
      ReadList<LoraTarget>(adapters, "targets", 1, kAllLoraTargets.size(), ParseLoraTarget);
  policy.adapters.max_rank = Whole(adapters, "max_rank", 1, 256);
  ReadCohort(root.Map("cohort"), &policy.cohort);
  ReadPrivacy(root.Map("privacy"), &policy.privacy);
  YamlMap aggregation = root.MapOr("secure_aggregation");
  policy.secure_aggregation.pairwise_keys_required =
      aggregation.ChoiceOr("pairwise_keys", 0, {"optional", "required"}) == 1;
  YamlMap training = root.Map("training");
  policy.training.max_rounds = Whole(training, "max_rounds", 1, 100000);
  policy.training.max_local_steps = Whole(training, "max_local_steps", 1, 100000);
  policy.training.max_sequence_tokens = Whole(training, "max_sequence_tokens", 8, 1 << 17);
  policy.training.max_batch_sequences =
      static_cast<uint32_t>(training.IntegerOr("max_batch_sequences", 4096, 1, 4096));
  ReadDeadlines(root.Map("deadlines"), &policy.deadlines);
  YamlMap artefacts = root.Map("artefacts");
  policy.artefacts.delta = ReadAllow(artefacts, "delta");
  policy.artefacts.metrics = ReadAllow(artefacts, "metrics");
  ReadEvaluation(artefacts.Map("evaluation"), &policy.artefacts.evaluation);
  policy.approval = root.Choice("approval", {"automatic", "manual"}) == 0 ? ApprovalMode::kAutomatic
                                                                          : ApprovalMode::kManual;
  policy.sandbox =
      root.Choice("sandbox", {"required", "advisory"}) == 0 ? SandboxMode::kRequired : SandboxMode::kAdvisory;
  RETURN_IF_ERROR(file.Finish());
  return policy;
}

StatusOr<RegionPolicy> LoadRegionPolicy(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 20));
  return ParseRegionPolicy(text, path);
}

}  // namespace concordat::policy
