#include "policy/job.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/canonical.h"
#include "policy/job_privacy.h"
#include "policy/yaml_fields.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/gradient_grid.h"

namespace concordat::policy {
namespace {

constexpr double kLeastMetricNoise = 0.01;
constexpr int64_t kSecond = 1000;
constexpr int64_t kMinute = 60 * kSecond;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;

uint32_t Whole(YamlMap& map, std::string_view key, int64_t min, int64_t max) {
  return static_cast<uint32_t>(map.Integer(key, min, max));
}
uint32_t WholeOr(YamlMap& map, std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  return static_cast<uint32_t>(map.IntegerOr(key, fallback, min, max));
}

void ReadBaseModel(YamlMap map, JobSpec::BaseModel* out) {
  out->name = map.Text("name", 128);
  out->sha256 = ReadDigest(map, "sha256");
  out->license = map.Text("license", 64);
  YamlMap shape = map.Map("shape");
  out->shape.layers = Whole(shape, "layers", 1, 1000);
  out->shape.hidden = Whole(shape, "hidden", 1, 1 << 17);
  out->shape.intermediate = Whole(shape, "intermediate", 1, 1 << 20);
  out->shape.heads = Whole(shape, "heads", 1, 1024);
  out->shape.kv_heads = Whole(shape, "kv_heads", 1, 1024);
  out->shape.head_dim = Whole(shape, "head_dim", 1, 1024);
}

void ReadAdapter(YamlMap map, LoraSpec* out) {
  std::vector<std::string_view> methods;
  for (const LoraMethod method : kAllLoraMethods) methods.push_back(LoraMethodName(method));
  out->method = kAllLoraMethods[map.Choice("method", methods)];
  out->rank = Whole(map, "rank", 1, 256);
  out->alpha = map.Number("alpha", 1e-3, 1e4);
  out->targets = ReadList<LoraTarget>(map, "targets", 1, kAllLoraTargets.size(), ParseLoraTarget);
  // The order of a file is nobody's business: layouts have their own.
  std::sort(out->targets.begin(), out->targets.end());
}

void ReadTraining(YamlMap map, JobSpec::Training* out) {
  out->local_steps = Whole(map, "local_steps", 1, 100000);
  out->batch_sequences = Whole(map, "batch_sequences", 1, 4096);
  out->sequence_tokens = Whole(map, "sequence_tokens", 8, 1 << 17);
  out->learning_rate = map.Number("learning_rate", 1e-9, 10);
  static constexpr Schedule kSchedules[] = {Schedule::kConstant, Schedule::kCosine};
  out->schedule = kSchedules[map.Choice("schedule", {"constant", "cosine"})];
  out->weight_decay = map.NumberOr("weight_decay", 0, 0, 1);
  out->beta2 = map.NumberOr("beta2", 0.95, 0, 0.99999);
  out->gradient_clip = map.NumberOr("gradient_clip", 1.0, 1e-6, 1e6);
  static constexpr Optimizer kOptimizers[] = {Optimizer::kAdamW, Optimizer::kSgd};
  out->optimizer = kOptimizers[map.ChoiceOr("optimizer", 0, {"adamw", "sgd"})];
}

void ReadCohort(YamlMap map, JobSpec::Cohort* out) {
  // Without the key every member is invited; an empty list would say nobody and mean everybody.
  out->jurisdictions = CheckNames(map, "jurisdictions", map.TextsOr("jurisdictions", 1, kMaxSites));
  out->minimum = Whole(map, "minimum", 3, kMaxSites);
  out->min_survivors = Whole(map, "min_survivors", 3, kMaxSites);
  out->assumed_colluding = WholeOr(map, "assumed_colluding", 1, 1, kMaxSites);
  out->attempts_per_round = WholeOr(map, "attempts_per_round", 3, 1, JobSpec::Cohort::kMostAttempts);
  out->wait_ms = static_cast<uint32_t>(map.DurationMillisOr("wait", 30 * kSecond, 0, 7 * kDay));
}

void ReadDeadlines(YamlMap map, secagg::Deadlines* out) {
  const auto read = [&](std::string_view key, int64_t fallback, int64_t max) {
    return static_cast<uint32_t>(map.DurationMillisOr(key, fallback, kSecond, max));
  };
  out->advert_ms = read("advert", kMinute, kHour);
  out->shares_ms = read("shares", kMinute, kHour);
  out->input_ms = read("input", kHour, 14 * kDay);
  out->agreement_ms = read("agreement", kMinute, kHour);
  out->unmask_ms = read("unmask", kMinute, kHour);
}

uint32_t ReadModulusBits(YamlMap& map) {
  static constexpr uint32_t kBits[] = {kPlainBits, kPackedBits};
  return kBits[map.ChoiceOr("modulus_bits", 0, {"32", "24"})];
}

void ReadPrivacy(YamlMap map, JobSpec::Privacy* out) {
  static constexpr PrivacyUnit kUnits[] = {PrivacyUnit::kSite, PrivacyUnit::kPerson, PrivacyUnit::kRecord};
  out->unit = kUnits[map.Choice("unit", {"site", "person", "record"})];
  static constexpr NoisePlacement kPlaces[] = {NoisePlacement::kLocal, NoisePlacement::kDistributed};
  out->noise = kPlaces[map.Choice("noise", {"local", "distributed"})];
  out->clip = map.Number("clip", 1e-9, 1e9);
  out->noise_multiplier = map.Number("noise_multiplier", 0, 1e6);
  out->delta = map.Probability("delta");
  static constexpr RoundingMode kModes[] = {RoundingMode::kStochastic, RoundingMode::kNearest};
  out->rounding = kModes[map.ChoiceOr("rounding", 0, {"stochastic", "nearest"})];
  out->modulus_bits = ReadModulusBits(map);
  if (out->unit == PrivacyUnit::kSite) return;
  out->unit_clip = map.Number("unit_clip", 1e-9, 1e9);
  out->sampling_rate = map.Probability("sampling_rate", true);
  out->expected_units = map.Number("expected_units", 1e-6, 1e9);
}

void ReadMetrics(YamlMap map, const JobSpec::Privacy& privacy, JobSpec::Metrics* out) {
  const bool site = privacy.unit == PrivacyUnit::kSite;
  const double usual = privacy.noise_multiplier * (site ? 1 : kUnitMetricNoise);
  out->loss_bound = map.NumberOr("loss_bound", 8, 1e-3, 1e3);
  out->noise_multiplier = map.NumberOr("noise_multiplier", usual, 0, site ? 60 : 1e6);
  if (!site && out->noise_multiplier != 0 && out->noise_multiplier < kLeastMetricNoise)
    map.Mistake("noise_multiplier",
                fmt::format("expected 0 or at least {}, got {}", kLeastMetricNoise, out->noise_multiplier));
}

/// n, t, m, nC, h of every roster that the job allows.
void CheckCohort(YamlMap& map, const JobSpec::Cohort& cohort) {
  const uint32_t n = cohort.minimum, m = cohort.min_survivors, colluding = cohort.assumed_colluding;
  if (m > n) {
    return map.Mistake("min_survivors", fmt::format("expected at most minimum = {}, got {}", n, m));
  }
  if (const uint32_t t = secagg::ThresholdFor(n); m < t) {
    return map.Mistake("min_survivors",
                       fmt::format("expected at least the threshold of {} sites, {}, got {}", n, t, m));
  }
  if (m < colluding + 2) {
    return map.Mistake("min_survivors",
                       fmt::format("expected at least assumed_colluding + 2 = {}, so that two "
                                   "honest sites remain; got {}",
                                   colluding + 2, m));
  }
  for (uint32_t sites = n; sites <= kMaxSites; ++sites) {
    const uint32_t t = secagg::ThresholdFor(sites);
    if (2 * t <= sites + colluding) {
      return map.Mistake("assumed_colluding",
                         fmt::format("with a roster of {} sites the threshold is {}, which withstands {} "
                                     "colluding sites, not {}",
                                     sites, t, 2 * t - sites - 1, colluding));
    }
  }
  if (!cohort.jurisdictions.empty() && cohort.jurisdictions.size() < 3) {
    map.Mistake("jurisdictions", "expected at least 3, because the sites of one jurisdiction count as one");
  }
}

/// What a sum over units is: each of them once, and a step that is linear in what all sites' sums add up to.
void CheckUnitSum(YamlMap& training, YamlMap& privacy, const JobSpec& job) {
  const std::string when =
      fmt::format("with unit {} and noise distributed", PrivacyUnitText(job.privacy.unit));
  const auto& t = job.training;
  if (t.local_steps != 1)
    training.Mistake("local_steps",
                     fmt::format("expected 1 {}, got {}: after several steps of its own a site's delta is no "
                                 "sum over units, and a share of noise would protect nobody but the site",
                                 when, t.local_steps));
  if (t.optimizer != Optimizer::kSgd)
    training.Mistake(
        "optimizer",
        fmt::format("{}expected sgd {}: the step is taken on the noised sum of all sites and must "
                    "be linear in it, which adamw's is not",
                    training.Has("optimizer") ? "" : "missing; ", when));
  if (t.weight_decay != 0)
    training.Mistake("weight_decay", fmt::format("expected 0 {}, got {}", when, t.weight_decay));
  if (training.Has("beta2")) training.Mistake("beta2", fmt::format("is adamw's: expected none {}", when));
  if (job.privacy.sampling_rate != 1)
    privacy.Mistake("sampling_rate",
                    fmt::format("expected 1 {}, got {}: every {} is in every round's sum, and no less is "
                                "accounted for",
                                when, job.privacy.sampling_rate, PrivacyUnitText(job.privacy.unit)));
  if (job.privacy.expected_units < 1)
    privacy.Mistake("expected_units",
                    fmt::format("expected at least 1 {}, got {}", when, job.privacy.expected_units));
}

/// What a trainer of DP-SGD would refuse.
void CheckUnit(YamlMap& map, const JobSpec& job, uint64_t elements) {
  const auto grid = GradientGrid::Make({elements, job.privacy.unit_clip, job.privacy.noise_multiplier, 0});
  if (!grid.ok()) map.Mistake("noise_multiplier", Message(grid.status()));
}

/// Sums of discrete Gaussians are priced from a share of half an integer on: of the metrics', which have
/// their own line, that is said there. False if it was.
bool CheckMetricShares(YamlMap& line, const JobSpec& job, const EncodingPlan& plan, uint32_t sites) {
  for (const MetricSpec& metric : plan.config().metrics) {
    if (metric.noise_stddev == 0 || metric.noise_stddev >= 0.5) continue;
    const std::string why = fmt::format(
        "metrics with {} sites: each of {} shares of their noise has a standard deviation of {:.3g} steps of "
        "{} for each "
        "{}, and sums are priced from 0.5: expected more noise, or fewer expected_units",
        sites, HonestSurvivorsFor(job, sites), metric.noise_stddev, metric.sensitivity,
        PrivacyUnitText(job.privacy.unit));
    line.Mistake("noise_multiplier", why);
    return false;
  }
  return true;
}

/// The three parts of a file that privacy is in.
struct PrivacyMaps {
  YamlMap& training;
  YamlMap& privacy;
  YamlMap& metrics;
};

void CheckPrivacy(YamlMap& root, PrivacyMaps maps, const JobSpec& job) {
  YamlMap& map = maps.privacy;
  // Left out, the metrics' noise follows from the gradients'.
  YamlMap& metrics_line = maps.metrics.Has("noise_multiplier") ? maps.metrics : map;
  if (job.privacy.rounding == RoundingMode::kNearest && job.privacy.noise_multiplier > 0) {
    map.Mistake("rounding", "nearest is for reproducible runs with noise_multiplier 0; expected stochastic");
    return;
  }
  const auto layout = AdapterLayout::Make(job.base_model.shape, job.adapter);
  if (!layout.ok()) return root.Mistake("adapter", Message(layout.status()));
  if (IsUnitSum(job)) {
    CheckUnitSum(maps.training, map, job);
    if (const auto sum = UnitSumFor(job); !sum.ok()) return map.Mistake("clip", Message(sum.status()));
  } else if (job.training.optimizer == Optimizer::kSgd) {
    maps.training.Mistake("optimizer",
                          "expected adamw: sgd is the step of unit record or person with noise distributed");
  }
  if (IsPerUnit(job) && !IsUnitSum(job)) CheckUnit(map, job, layout->delta_elements());
  for (uint32_t sites : {job.cohort.minimum, static_cast<uint32_t>(kMaxSites)}) {
    const auto plan = EncodingFor(job, sites);
    if (!plan.ok()) {
      return map.Mistake("noise_multiplier", fmt::format("with {} sites: {}", sites, Message(plan.status())));
    }
    if (IsUnitSum(job) && !CheckMetricShares(metrics_line, job, *plan, sites)) return;
    const auto charge = RoundCharge(job, AttemptId{}, sites);
    if (!charge.ok()) {
      return map.Mistake("noise_multiplier",
                         fmt::format("with {} sites: {}", sites, Message(charge.status())));
    }
  }
}

}  // namespace

StatusOr<JobSpec> ParseJob(std::string_view text, std::string_view file_name) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  JobSpec job;
  job.name = ReadName(root, "name");
  job.seed = static_cast<uint64_t>(root.IntegerOr("seed", 0, 0, INT64_MAX));
  job.charter = ReadDigest(root, "charter");
  ReadBaseModel(root.Map("base_model"), &job.base_model);
  ReadAdapter(root.Map("adapter"), &job.adapter);
  YamlMap training = root.Map("training");
  ReadTraining(training, &job.training);
  job.rounds = Whole(root, "rounds", 1, 100000);
  YamlMap cohort = root.Map("cohort");
  ReadCohort(cohort, &job.cohort);
  YamlMap deadlines = root.MapOr("deadlines");
  ReadDeadlines(deadlines, &job.deadlines);
  YamlMap privacy = root.Map("privacy");
  ReadPrivacy(privacy, &job.privacy);
  YamlMap aggregation = root.MapOr("secure_aggregation");
  job.secure_aggregation.pairwise_keys = aggregation.ChoiceOr("pairwise_keys", 0, {"none", "required"}) == 1;
  YamlMap metrics = root.MapOr("metrics");
  ReadMetrics(metrics, job.privacy, &job.metrics);
  YamlMap server = root.MapOr("server");
  job.server.learning_rate = server.NumberOr("learning_rate", 1.0, 1e-6, 10);
  if (file.clean()) CheckCohort(cohort, job.cohort);
  if (file.clean()) CheckPrivacy(root, {training, privacy, metrics}, job);
  RETURN_IF_ERROR(file.Finish());
  return job;
}

JobId JobIdOf(std::string_view file, const SpiffeId& submitter) {
  CanonicalWriter out;
  out.Text(file);
  out.Text(submitter.ToString());
  return crypto::TaggedHash("concordat/v1/job-id", out.bytes());
}

namespace {

/// Of the job's learning rate, from its schedule.
double RateShare(const JobSpec& job, RoundIndex round) {
  if (job.training.schedule == Schedule::kConstant) return 1;
  const double done = static_cast<double>(std::min(round, job.rounds)) / job.rounds;
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace

double LearningRateOf(const JobSpec& job, RoundIndex round) {
  return job.training.learning_rate * RateShare(job, round);
}

double StepRateOf(const JobSpec& job, RoundIndex round) {
  constexpr double kShares = 65536;
  return job.training.learning_rate * std::max(1.0, std::round(RateShare(job, round) * kShares)) / kShares;
}

double PlannedTokens(const JobSpec& job) {
  const auto& t = job.training;
  const double units = IsPerUnit(job) ? job.privacy.expected_units : t.batch_sequences;
  return static_cast<double>(t.local_steps) * units * t.sequence_tokens;
}

StatusOr<uint64_t> MaskedElements(const JobSpec& job) {
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
  return layout.delta_elements() + kMetricCount;
}

}  // namespace concordat::policy
