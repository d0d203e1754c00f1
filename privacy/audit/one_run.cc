#include "privacy/audit/one_run.h"

#include <math.h>

#include <numeric>

#include "privacy/audit/scores.h"

namespace concordat::audit {
namespace {

constexpr uint32_t kMostCanaries = 1U << 20;
constexpr double kMostEpsilon = 64;
/// Over 2^20 terms, each from three logarithms of gammas of up to 2^25 in size.
constexpr double kUp = 1 + 1e-8;
constexpr double kEpsilonDown = 1e-9;
constexpr uint32_t kShares[] = {1, 2, 4, 8, 16};

double LogGamma(double x) {
  int sign = 0;  // std::lgamma writes it to a global
  return ::lgamma_r(x, &sign);
}

/// P[Binomial(r, q) = k] for k = 0 … r, q = 1/(1 + e^−ε).
std::vector<double> Probabilities(uint32_t guesses, double epsilon) {
  const auto r = static_cast<double>(guesses);
  const double log_right = -std::log1p(std::exp(-epsilon)), log_wrong = log_right - epsilon;
  std::vector<double> out(guesses + size_t{1});
  for (uint32_t i = 0; i <= guesses; ++i) {
    const double k = i;
    out[i] = std::exp(LogGamma(r + 1) - LogGamma(k + 1) - LogGamma(r - k + 1) + k * log_right +
                      (r - k) * log_wrong);
  }
  return out;
}

double PValue(uint32_t canaries, uint32_t guesses, uint32_t correct, double epsilon, double delta) {
  const std::vector<double> p = Probabilities(guesses, epsilon);
  const double tail = std::accumulate(p.begin() + correct, p.end(), 0.0);
  double between = 0, steepest = 0;  // f(v − i) − f(v), and the most of it over i
  for (uint32_t i = 1; delta > 0 && i <= correct; ++i) {
    between += p[correct - i];
    steepest = std::max(steepest, between / i);
  }
  return std::min(1.0, (tail + 2.0 * canaries * delta * steepest) * kUp);
}

double Refuted(uint32_t canaries, uint32_t guesses, uint32_t correct, double delta, double beta) {
  const auto refutes = [&](double epsilon) {
    return PValue(canaries, guesses, correct, epsilon, delta) <= beta;
  };
  double low = 0, high = kMostEpsilon;
  if (!refutes(low)) return 0;
  if (refutes(high)) return high;
  while (high - low > kEpsilonDown / 2) {
    const double middle = (low + high) / 2;
    (refutes(middle) ? low : high) = middle;
  }
  return std::max(0.0, low - kEpsilonDown / 2);
}

Status CheckCounts(uint32_t canaries, uint32_t guesses, uint32_t correct, double delta) {
  if (canaries == 0 || canaries > kMostCanaries)
    return InvalidArgument("canaries: expected 1 to {}, got {}", kMostCanaries, canaries);
  if (guesses > canaries || correct > guesses)
    return InvalidArgument("guesses: expected correct <= guesses <= canaries, got {}, {} and {}", correct,
                           guesses, canaries);
  if (!(delta >= 0 && delta <= 1)) return InvalidArgument("delta: expected 0 to 1, got {}", delta);
  return OkStatus();
}

Status CheckProbability(double p, std::string_view what) {
  if (!(p > 0 && p < 1)) return InvalidArgument("{}: expected more than 0, less than 1, got {}", what, p);
  return OkStatus();
}

/// How many coins are guessed right: "not" for the first of `ascending`, "trained on" for the last.
uint32_t CountCorrect(const std::vector<uint32_t>& ascending, std::span<const uint8_t> trained_on,
                      uint32_t guesses) {
  uint32_t correct = 0;
  for (uint32_t i = 0; i < guesses / 2; ++i) {
    correct += trained_on[ascending[i]] == 0;
    correct += trained_on[ascending[ascending.size() - 1 - i]] != 0;
  }
  return correct;
}

std::vector<uint32_t> NumbersOfGuesses(uint32_t canaries) {
  std::vector<uint32_t> out;
  for (const uint32_t share : kShares) {
    const uint32_t guesses = canaries / share / 2 * 2;
    if (guesses >= 2 && (out.empty() || out.back() != guesses)) out.push_back(guesses);
  }
  return out;
}

}  // namespace

StatusOr<double> OneRunPValue(uint32_t canaries, uint32_t guesses, uint32_t correct, double epsilon,
                              double delta) {
  RETURN_IF_ERROR(CheckCounts(canaries, guesses, correct, delta));
  if (!(epsilon >= 0 && std::isfinite(epsilon)))
    return InvalidArgument("epsilon: expected at least 0, got {}", epsilon);
  return PValue(canaries, guesses, correct, epsilon, delta);
}

StatusOr<double> OneRunEpsilon(uint32_t canaries, uint32_t guesses, uint32_t correct, double delta,
                               double beta) {
  RETURN_IF_ERROR(CheckCounts(canaries, guesses, correct, delta));
  RETURN_IF_ERROR(CheckProbability(beta, "beta"));
  return Refuted(canaries, guesses, correct, delta, beta);
}

StatusOr<OneRunAudit> AuditOneRun(std::span<const double> scores, std::span<const uint8_t> trained_on,
                                  double delta, double confidence) {
  RETURN_IF_ERROR(internal::CheckScores(scores, 2, "canaries"));
  if (trained_on.size() != scores.size())
    return InvalidArgument("canaries: {} scores and {} coins", scores.size(), trained_on.size());
  if (scores.size() > kMostCanaries)
    return InvalidArgument("canaries: expected at most {}, got {}", kMostCanaries, scores.size());
  const auto m = static_cast<uint32_t>(scores.size());
  RETURN_IF_ERROR(CheckCounts(m, m, 0, delta));
  RETURN_IF_ERROR(CheckProbability(confidence, "confidence"));

  std::vector<uint32_t> ascending(m);
  std::iota(ascending.begin(), ascending.end(), 0U);
  std::stable_sort(ascending.begin(), ascending.end(),
                   [&](uint32_t a, uint32_t b) { return scores[a] < scores[b]; });
  const std::vector<uint32_t> numbers = NumbersOfGuesses(m);
  const double beta = (1 - confidence) / static_cast<double>(numbers.size());
  OneRunAudit best{.canaries = m, .delta = delta, .confidence = confidence};
  for (const uint32_t guesses : numbers) {
    const uint32_t correct = CountCorrect(ascending, trained_on, guesses);
    const double epsilon = Refuted(m, guesses, correct, delta, beta);
    best.ceiling = std::max(best.ceiling, Refuted(m, guesses, guesses, delta, beta));
    if (best.guesses != 0 && epsilon <= best.epsilon) continue;
    best.guesses = guesses;
    best.correct = correct;
    best.epsilon = epsilon;
  }
  return best;
}

}  // namespace concordat::audit
