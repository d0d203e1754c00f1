#ifndef CONCORDAT_POLICY_JOB_H_
#define CONCORDAT_POLICY_JOB_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/units.h"
#include "privacy/accounting/privacy_unit.h"
#include "privacy/crypto/signature.h"
#include "privacy/mechanism/words.h"
#include "privacy/secagg/messages.h"

namespace concordat::policy {

/// How the learning rate goes over rounds; inside a round it is constant.
enum class Schedule : uint8_t { kConstant, kCosine };
/// Where the noise is added: each site the whole of it, or each its share.
enum class NoisePlacement : uint8_t { kLocal, kDistributed };
enum class RoundingMode : uint8_t { kStochastic, kNearest };
/// What makes a step of a gradient. kSgd is for sums over privacy units alone (IsUnitSum): there the step is
/// taken on the sum over all sites, and must be linear in it.
enum class Optimizer : uint8_t { kAdamW, kSgd };

/// metrics.noise_multiplier of a job for persons or records that does not say it, over
/// privacy.noise_multiplier: noise on a loss is bearable with that much, and then costs hardly anything.
constexpr double kUnitMetricNoise = 5;

/// A job as its file states it; configs/job.yaml is the commented example. Everything that decides what
/// leaves a region is here, signed by the submitter, so that a coordinator cannot choose it.
struct JobSpec {
  std::string name;
  uint64_t seed = 0;  // public: initial adapter, order of examples
  Digest charter;     // the charter this job runs under
  struct BaseModel {
    std::string name;
    Digest sha256;
    std::string license;
    ModelShape shape;
  } base_model;
  LoraSpec adapter;
  struct Training {
    uint32_t local_steps = 0;
    uint32_t batch_sequences = 0;
    uint32_t sequence_tokens = 0;
    double learning_rate = 0;
    Schedule schedule = Schedule::kCosine;
    double weight_decay = 0;
    double beta2 = 0.95;
    double gradient_clip = 1.0;
    Optimizer optimizer = Optimizer::kAdamW;
  } training;
  uint32_t rounds = 0;
  struct Cohort {
    std::vector<std::string> jurisdictions;  // invited; all of the charter's when empty
    uint32_t minimum = 0;                    // sites in a roster, at least
    uint32_t min_survivors = 0;              // m
    uint32_t assumed_colluding = 1;          // nC
    static constexpr uint32_t kMostAttempts = 100;
    uint32_t attempts_per_round = 3;  // at most kMostAttempts
    uint32_t wait_ms = 0;  // how long to wait for the invited before starting with at least `minimum`
  } cohort;
  secagg::Deadlines deadlines;
  struct Privacy {
    PrivacyUnit unit = PrivacyUnit::kSite;
    NoisePlacement noise = NoisePlacement::kLocal;
    /// L2 bound on a site's delta; of a sum over units (IsUnitSum) the bound on each of its weights, in the
    /// first round.
    double clip = 0;
    double noise_multiplier = 0;  // σ / sensitivity of the unit's part; 0: no noise, epsilon is infinite
    double delta = 0;
    /// With units person and record and local noise: DP-SGD in the trainer, whose noise covers the whole
    /// delta. With distributed noise: one sum of clipped gradients a round, whose noise the sites share.
    double unit_clip = 0;       // C, L2 bound on one unit's gradient
    double sampling_rate = 0;   // q, of each unit in each step
    double expected_units = 0;  // a step's divisor: q times a public guess at how many units a region has
    RoundingMode rounding = RoundingMode::kStochastic;
    uint32_t modulus_bits = kPlainBits;  // b; with 24 the delta is rotated and the masked vector packed
  } privacy;
  struct SecureAggregation {
    /// Every two sites have carried each other a key by another way than the network, and it goes into all
    /// that they agree on: docs/SECURE_AGGREGATION.md, "Pairwise keys".
    bool pairwise_keys = false;
  } secure_aggregation;
  struct Metrics {
    double loss_bound = 0;        // nats per token; the mean loss of a site, or of a unit, is clipped to it
    double noise_multiplier = 0;  // σ_m / bound of each metric coordinate
  } metrics;
  struct Server {
    double learning_rate = 1.0;  // η of FedAvg: new = old + η·mean delta
  } server;
};

/// A job file with its submitter's signature (policy/signed_job.h), as it travels: the bytes decide, nothing
/// is re-encoded.
struct SignedJob {
  static constexpr std::string_view kDomain = "concordat/v1/job";
  std::string file;  // YAML
  crypto::Signature signature{};
  std::string submitter_chain;  // PEM, leaf first
};

/// Reads a job file strictly and checks it against itself: `2t > n + nC` can hold, m ≤ minimum, overflow
/// probability, combinations that PRIVACY allows. InvalidArgument with file, line, column, what was expected.
StatusOr<JobSpec> ParseJob(std::string_view text, std::string_view file_name);

/// The job's name everywhere: tagged hash of the file's bytes and the submitter's SPIFFE ID.
JobId JobIdOf(std::string_view file, const SpiffeId& submitter);

/// The metrics inside the masked vector, in order; each is one coordinate after the delta, clipped, scaled
/// and noised by its own parameters (policy/job_privacy.h).
///   kLoss    the site's mean training loss of the round in nats per token, clipped to metrics.loss_bound;
///   the
///            sum over survivors divided by their number is the cohort's
///   kTokens  the share of PlannedTokens that the loss counted, 0 to 1
/// Of a sum over units (IsUnitSum) both are sums over the site's units, each of which adds from 0 to
/// 1/expected_units of a bound: kLoss the loss in nats over PlannedTokens, kTokens the target tokens over
/// PlannedTokens, so that their ratio is the mean loss. A site with more than twice the expected units is
/// clamped.
/// The number of survivors needs no coordinate: the survivor set is public.
enum class Metric : uint8_t { kLoss, kTokens };
inline constexpr size_t kMetricCount = 2;

/// Learning rate of round `round`, by the schedule.
double LearningRateOf(const JobSpec& job, RoundIndex round);
/// The same for a step that every site and the coordinator take for themselves (IsUnitSum): training's rate
/// times a share in 65536ths, at least one, so that the last bits of two machines' cosines make no two
/// adapters.
double StepRateOf(const JobSpec& job, RoundIndex round);

/// Tokens that a site reads in a round at most, or with units person and record on average, if each unit has
/// one full sequence: local_steps · (batch_sequences or expected_units) · sequence_tokens.
double PlannedTokens(const JobSpec& job);

/// Length of the masked vector: the delta, then the metrics.
StatusOr<uint64_t> MaskedElements(const JobSpec& job);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_JOB_H_
