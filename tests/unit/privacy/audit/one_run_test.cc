#include "privacy/audit/one_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace concordat::audit {
namespace {

using concordat::testing::HasStatus;

double P(uint32_t m, uint32_t r, uint32_t v, double epsilon, double delta) {
  return OneRunPValue(m, r, v, epsilon, delta).value();
}
double Epsilon(uint32_t m, uint32_t r, uint32_t v, double delta, double beta) {
  return OneRunEpsilon(m, r, v, delta, beta).value();
}
double Right(double epsilon) { return 1 / (1 + std::exp(-epsilon)); }

/// P[Binomial(n, q) = k] for every k, one coin after the other.
std::vector<double> Coins(uint32_t n, double q) {
  std::vector<double> p = {1};
  for (uint32_t i = 0; i < n; ++i) {
    std::vector<double> next(p.size() + 1);
    for (size_t k = 0; k < p.size(); ++k) {
      next[k] += p[k] * (1 - q);
      next[k + 1] += p[k] * q;
    }
    p = std::move(next);
  }
  return p;
}

TEST(OneRunPValueTest, WithoutDeltaIsTheChanceOfRandomisedResponse) {
  for (const double epsilon : {0.0, 0.5, 2.0, 7.0}) {
    for (const uint32_t r : {1u, 3u, 12u}) {
      const std::vector<double> p = Coins(r, Right(epsilon));
      double tail = 0;
      for (uint32_t v = r + 1; v-- > 0;) {
        tail += p[v];
        EXPECT_GE(P(20, r, v, epsilon, 0), tail * (1 - 1e-14)) << "never below";
        EXPECT_NEAR(P(20, r, v, epsilon, 0), tail, 2e-8 * tail);
      }
    }
  }
}

TEST(OneRunPValueTest, PricesDeltaAsTheTheoremDoes) {
  // One canary: f(0) = 1, f(1) = 1/2, so that δ adds 2·δ·1/2. To give the coin away with chance δ reaches it.
  EXPECT_NEAR(P(1, 1, 1, 0, 0.1), 0.5 + 0.1, 1e-7);
  // Two: f = 1, 3/4, 1/4. Slopes 1/2 and 3/8; 4δ times the steeper.
  EXPECT_NEAR(P(2, 2, 2, 0, 0.01), 0.25 + 4 * 0.01 * 0.5, 1e-7);
  // δ counts for every canary, guessed or not.
  EXPECT_NEAR(P(10, 2, 2, 0, 0.01), 0.25 + 20 * 0.01 * 0.5, 1e-7);
  EXPECT_EQ(P(2, 2, 2, 0, 1), 1);
  EXPECT_EQ(P(2, 2, 0, 0, 0), 1);
}

TEST(OneRunEpsilonTest, GivesTheValuesThatItsAuthorsPrint) {
  // Appendix D, and section 7 with figure 11: three digits, the second cut off.
  EXPECT_NEAR(Epsilon(1000, 100, 75, 1e-4, 0.05), 0.673, 1e-3);
  EXPECT_NEAR(Epsilon(100000, 1510, 1439, 1e-5, 0.05), 2.675, 1e-3);
}

TEST(OneRunEpsilonTest, OfAPerfectAttackIsWhatItsCountAllows) {
  // q^m = β: all right is as likely as the confidence leaves open.
  for (const uint32_t m : {5u, 10u, 100u, 1000u}) {
    const double q = std::pow(0.05, 1.0 / m);
    EXPECT_NEAR(Epsilon(m, m, m, 0, 0.05), std::log(q / (1 - q)), 1e-6) << m;
    EXPECT_LE(Epsilon(m, m, m, 0, 0.05), std::log(q / (1 - q))) << "never above";
  }
  EXPECT_EQ(Epsilon(4, 4, 4, 0, 0.05), 0) << "1/16 is more than β";
  EXPECT_LT(Epsilon(1000, 1000, 1000, 1e-4, 0.05), Epsilon(1000, 1000, 1000, 0, 0.05));
}

TEST(OneRunEpsilonTest, OfAGuessIsNothing) {
  for (const uint32_t m : {2u, 50u, 1000u}) {
    EXPECT_EQ(Epsilon(m, m, m / 2, 0, 0.05), 0);
    EXPECT_EQ(Epsilon(m, m, 0, 0, 0.05), 0) << "all wrong is no evidence for guesses that were not turned";
    EXPECT_EQ(Epsilon(m, 0, 0, 0, 0.05), 0);
  }
  double last = 0;
  for (uint32_t v = 50; v <= 100; ++v) {
    const double epsilon = Epsilon(100, 100, v, 1e-5, 0.05);
    EXPECT_GE(epsilon, last);
    last = epsilon;
  }
  EXPECT_GT(last, 3);
}

/// The chance, exactly, that the bound is above the true ε, where each coin is given away with chance δ and
/// else answered by randomised response: (ε, δ)-DP for each coin by itself. `priced` is the δ that the bound
/// is told.
double ChanceOfABoundTooHigh(uint32_t m, double epsilon, double delta, double priced, double beta) {
  const std::vector<double> p = Coins(m, delta + (1 - delta) * Right(epsilon));
  double chance = 0;
  for (uint32_t v = 0; v <= m; ++v)
    if (Epsilon(m, m, v, priced, beta) > epsilon) chance += p[v];
  return chance;
}

TEST(OneRunEpsilonTest, IsAboveTheTruthNoMoreOftenThanItsConfidenceAllows) {
  double most = 0;
  for (const uint32_t m : {1u, 4u, 20u, 100u}) {
    for (const double epsilon : {0.0, 0.3, 1.0, 3.0}) {
      for (const double delta : {0.0, 0.01, 0.1}) {
        for (const double beta : {0.01, 0.05, 0.3}) {
          const double chance = ChanceOfABoundTooHigh(m, epsilon, delta, delta, beta);
          EXPECT_LE(chance, beta) << m << " " << epsilon << " " << delta << " " << beta;
          most = std::max(most, chance / beta);
        }
      }
    }
  }
  EXPECT_GT(most, 0.8) << "a bound that never errs would pass, and say nothing";
}

TEST(OneRunEpsilonTest, ABoundThatForgetsDeltaIsCaught) {
  EXPECT_GT(ChanceOfABoundTooHigh(300, 0.3, 0.1, 0, 0.05), 0.2);
}

/// Scores and coins of m canaries, of which the trained ones are `shift` higher.
struct Canaries {
  std::vector<double> scores;
  std::vector<uint8_t> coins;
};
Canaries Draw(size_t m, double shift, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Canaries out;
  for (size_t i = 0; i < m; ++i) {
    out.coins.push_back(random() & 1);
    out.scores.push_back(normal(random) + (out.coins.back() != 0 ? shift : 0));
  }
  return out;
}

TEST(AuditOneRunTest, APerfectAttackReachesTheCeiling) {
  Canaries c;
  for (int i = 0; i < 64; ++i) {
    c.coins.push_back(i % 2);
    c.scores.push_back(i % 2 == 1 ? 5.0 + i : -1.0 * i);
  }
  ASSERT_OK_AND_ASSIGN(const OneRunAudit audit, AuditOneRun(c.scores, c.coins, 0, 0.95));
  EXPECT_EQ(audit.canaries, 64u);
  EXPECT_EQ(audit.guesses, 64u);
  EXPECT_EQ(audit.correct, 64u);
  EXPECT_EQ(audit.epsilon, audit.ceiling);
  // 64, 32, 16, 8 and 4 guesses were tried: each at a fifth of what 95% leaves.
  EXPECT_DOUBLE_EQ(audit.epsilon, Epsilon(64, 64, 64, 0, (1 - 0.95) / 5));
  EXPECT_LT(audit.epsilon, Epsilon(64, 64, 64, 0, 0.05)) << "choosing costs confidence";
  for (uint8_t& coin : c.coins) coin = coin == 0;
  ASSERT_OK_AND_ASSIGN(const OneRunAudit flipped, AuditOneRun(c.scores, c.coins, 0, 0.95));
  EXPECT_EQ(flipped.correct, 0u);
  EXPECT_EQ(flipped.epsilon, 0);
  EXPECT_EQ(flipped.ceiling, audit.ceiling);
}

TEST(AuditOneRunTest, AFewThatAreRememberedAreFoundByFewerGuesses) {
  std::mt19937_64 random(2);
  Canaries c = Draw(400, 0, random);
  // The first 25 that were trained on stand out, and 25 that were not sink.
  int up = 25, down = 25;
  for (size_t i = 0; i < c.coins.size(); ++i) {
    if (c.coins[i] != 0 && up > 0) c.scores[i] = 100 + up--;
    if (c.coins[i] == 0 && down > 0) c.scores[i] = -100 - down--;
  }
  ASSERT_OK_AND_ASSIGN(const OneRunAudit audit, AuditOneRun(c.scores, c.coins, 1e-5, 0.95));
  EXPECT_EQ(audit.guesses, 50u);
  EXPECT_EQ(audit.correct, 50u);
  EXPECT_GT(audit.epsilon, 1.5);
  EXPECT_LT(audit.epsilon, audit.ceiling);
}

// 500 models that know nothing: at 95% some 25 bounds above 0 are allowed in the mean; the shares make it
// fewer. More than 45 come up once in 20,000 runs even so.
TEST(AuditOneRunTest, AModelThatKnowsNothingIsHardlyEverAboveZero) {
  std::mt19937_64 random(20261122);
  int above = 0;
  for (int i = 0; i < 500; ++i) {
    const Canaries c = Draw(128, 0, random);
    const auto audit = AuditOneRun(c.scores, c.coins, 1e-5, 0.95);
    ASSERT_OK(audit);
    above += audit->epsilon > 0;
  }
  EXPECT_LE(above, 45);
}

TEST(AuditOneRunTest, EqualScoresAreTakenInTheirOrderWhateverTheCoins) {
  const std::vector<double> flat(8, 0.0);
  // Guessed: the first four not trained on, the last four trained on.
  const std::vector<uint8_t> coins = {0, 0, 0, 0, 1, 1, 1, 1}, turned = {1, 1, 1, 1, 0, 0, 0, 0};
  ASSERT_OK_AND_ASSIGN(const OneRunAudit a, AuditOneRun(flat, coins, 0, 0.5));
  ASSERT_OK_AND_ASSIGN(const OneRunAudit b, AuditOneRun(flat, turned, 0, 0.5));
  EXPECT_EQ(a.correct, a.guesses);
  EXPECT_EQ(b.correct, 0u);
}

TEST(AuditOneRunTest, RefusesWhatIsNoAudit) {
  const std::vector<double> scores = {1, 2, 3};
  const std::vector<uint8_t> coins = {0, 1, 0};
  const auto refused = [](std::string_view why) { return HasStatus(StatusCode::kInvalidArgument, why); };
  EXPECT_OK(AuditOneRun(scores, coins, 1e-5, 0.95));
  EXPECT_THAT(AuditOneRun(std::vector<double>{1}, std::vector<uint8_t>{1}, 0, 0.95), refused("2 to"));
  EXPECT_THAT(AuditOneRun(scores, std::vector<uint8_t>{1}, 0, 0.95), refused("3 scores and 1 coins"));
  EXPECT_THAT(AuditOneRun(std::vector<double>{1, 2, std::nan("")}, coins, 0, 0.95), refused("not finite"));
  for (const double delta : {-1e-9, 1.5, std::nan("")})
    EXPECT_THAT(AuditOneRun(scores, coins, delta, 0.95), refused("delta"));
  for (const double confidence : {0.0, 1.0, -1.0, std::nan("")})
    EXPECT_THAT(AuditOneRun(scores, coins, 0, confidence), refused("confidence"));
  EXPECT_THAT(OneRunPValue(10, 11, 0, 1, 0), refused("guesses"));
  EXPECT_THAT(OneRunPValue(10, 5, 6, 1, 0), refused("guesses"));
  EXPECT_THAT(OneRunPValue(0, 0, 0, 1, 0), refused("canaries"));
  EXPECT_THAT(OneRunPValue(10, 5, 5, -1, 0), refused("epsilon"));
  EXPECT_THAT(OneRunPValue(10, 5, 5, INFINITY, 0), refused("epsilon"));
  EXPECT_THAT(OneRunEpsilon(10, 5, 5, 0, 0), refused("beta"));
  EXPECT_THAT(OneRunEpsilon(10, 5, 5, 0, 1), refused("beta"));
}

}  // namespace
}  // namespace concordat::audit
