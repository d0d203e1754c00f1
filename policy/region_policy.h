#ifndef CONCORDAT_POLICY_REGION_POLICY_H_
#define CONCORDAT_POLICY_REGION_POLICY_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "policy/charter.h"
#include "policy/dataset_card.h"
#include "policy/job.h"
#include "policy/rules.h"

namespace concordat::policy {

enum class ApprovalMode : uint8_t { kAutomatic, kManual };
enum class SandboxMode : uint8_t { kRequired, kAdvisory };

/// Who may submit: one operator, or every operator of a jurisdiction ("spiffe://fr.example/operator/*").
struct SubmitterPattern {
  std::string jurisdiction;
  std::string name;  // "*" for all
  bool operator==(const SubmitterPattern&) const = default;
  /// InvalidArgument unless `text` is an operator's SPIFFE ID or ends in "/operator/*".
  static StatusOr<SubmitterPattern> Parse(std::string_view text);
  bool Matches(const SpiffeId& id) const;
};

/// The region's own file, and final. What it does not allow is refused. configs/region-policy.yaml is the
/// commented example.
struct RegionPolicy {
  std::vector<SubmitterPattern> submitters;
  struct BaseModel {
    Digest sha256;
    std::string license;
  };
  std::vector<BaseModel> base_models;
  struct Adapters {
    std::vector<LoraMethod> methods;
    std::vector<LoraTarget> targets;
    uint32_t max_rank = 0;
  } adapters;
  struct Cohort {
    uint32_t min_sites = 0;
    uint32_t min_survivors = 0;
    uint32_t min_honest = 0;     // m − nC, at least
    uint32_t min_colluding = 1;  // nC, at least
    uint32_t max_attempts_per_round = 0;
  } cohort;
  struct Privacy {
    double max_clip = 0;
    double min_noise_multiplier = 0;
    double min_metrics_noise_multiplier = 0;
    double max_delta = 0;
    std::vector<NoisePlacement> noise;
    std::vector<RoundingMode> rounding;
    std::vector<uint32_t> modulus_bits = {kPlainBits};  // of the job's encoding
  } privacy;
  struct SecureAggregation {
    bool pairwise_keys_required = false;  // only jobs that use pairwise keys
  } secure_aggregation;
  struct Training {
    uint32_t max_rounds = 0;
    uint32_t max_local_steps = 0;
    uint32_t max_sequence_tokens = 0;
    uint32_t max_batch_sequences = 0;
  } training;
  /// Bounds in milliseconds for each deadline of an offer.
  struct Deadlines {
    secagg::Deadlines minimum;
    secagg::Deadlines maximum;
  } deadlines;
  struct Artefacts {
    bool delta = false;
    bool metrics = false;
    struct Evaluation {
      bool release = false;
      double bound_bits_per_byte = 0;  // the mean is clipped to 0..bound
      double noise_stddev = 0;         // bits per byte, on each mean that leaves
      uint32_t max_requests = 0;       // for one job
      /// Where the budget counts persons or records: noise over what one of them adds, 0 withholds the cell;
      /// and how many bytes of one of them count.
      double unit_noise_multiplier = 0;
      uint32_t unit_bytes = 4096;
    } evaluation;
  } artefacts;
  ApprovalMode approval = ApprovalMode::kManual;
  SandboxMode sandbox = SandboxMode::kRequired;
};

/// Reads a policy strictly; see YamlMap for the form of errors.
StatusOr<RegionPolicy> ParseRegionPolicy(std::string_view text, std::string_view file_name);
StatusOr<RegionPolicy> LoadRegionPolicy(const std::string& path);

/// What the ledger says about a job that is asked about, in ε at the card's δ.
struct LedgerView {
  double spent = 0;
  double after_job = 0;  // with every round still to come charged once
  double budget = 0;
};

/// Everything a region's answer rests on. Borrowed for the call.
struct PolicyQuestion {
  const RegionPolicy& policy;
  const DatasetCard& card;
  const Charter& charter;
  const Digest& charter_hash;
  const SpiffeId& worker;  // who answers
  const JobSpec& job;
  const SpiffeId& submitter;
  LedgerView ledger;
};

/// All rules that forbid this job, each with the detail for the region's own eyes; empty when it may run.
/// Pure.
std::vector<Refusal> Evaluate(const PolicyQuestion& question);

/// Whether a region's evaluation cell may leave. `requests_before`: requests of this job answered so far.
std::vector<Refusal> EvaluateRelease(const PolicyQuestion& question, uint32_t requests_before);

/// What one evaluation request costs: `cells` means, each clipped to the bound (site unit, zero-out) with the
/// policy's Gaussian noise rounded to the grid of EvaluationGrid.
StatusOr<RdpCurve> EvaluationCurve(const RegionPolicy::Artefacts::Evaluation& evaluation, uint32_t cells);

/// The same where the budget counts persons or records, whose sums of bits, one for each of `models`, and of
/// bytes leave together: scaled by their noise they are one vector, of which a unit moves at most
/// √(models + 1)/z. The noise is continuous, rounded to the integers that the sums are.
SubsampledGaussian UnitEvaluationPrice(const RegionPolicy::Artefacts::Evaluation& evaluation,
                                       uint32_t models);
/// Integers for each bit of such a sum, and the most of them that one unit adds.
inline constexpr uint32_t kUnitBitUnits = 16;
double UnitEvaluationBits(const RegionPolicy::Artefacts::Evaluation& evaluation);

/// One mean bits per byte as integers on a grid of 2^-20 bits per byte: clipped to 0..bound, noised with
/// `noise`, which is one draw of a discrete Gaussian of EvaluationVariance.
inline constexpr double kEvaluationUnits = 1048576.0;
int64_t EvaluationClip(const RegionPolicy::Artefacts::Evaluation& evaluation, double bits_per_byte);
StatusOr<NoiseVariance> EvaluationVariance(const RegionPolicy::Artefacts::Evaluation& evaluation);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_REGION_POLICY_H_
