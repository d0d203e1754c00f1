#include "privacy/secagg/shamir.h"

#include <bit>

#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

std::vector<SiteIndex> Sites(size_t n) {
  std::vector<SiteIndex> sites;
  for (size_t i = 0; i < n; ++i) sites.push_back(static_cast<SiteIndex>(i + 1));
  return sites;
}

// The slow, obvious product: polynomial multiplication, then division by x^8+x^4+x^3+x+1.
uint8_t ReferenceProduct(uint8_t a, uint8_t b) {
  unsigned product = 0;
  for (int i = 0; i < 8; ++i) {
    if ((b >> i) & 1) product ^= static_cast<unsigned>(a) << i;
  }
  for (int i = 15; i >= 8; --i) {
    if ((product >> i) & 1) product ^= 0x11bu << (i - 8);
  }
  return static_cast<uint8_t>(product);
}

TEST(ShamirTest, FieldProductAgreesWithPolynomialDivisionForAllPairs) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const auto x = static_cast<uint8_t>(a), y = static_cast<uint8_t>(b);
      ASSERT_EQ(Gf256Multiply(x, y), ReferenceProduct(x, y)) << a << " * " << b;
    }
  }
  EXPECT_EQ(Gf256Multiply(0x57, 0x83), 0xc1);  // FIPS 197, section 4.2
}

TEST(ShamirTest, EveryElementButZeroHasItsInverse) {
  for (int a = 1; a < 256; ++a) {
    ASSERT_EQ(Gf256Multiply(static_cast<uint8_t>(a), Gf256Invert(static_cast<uint8_t>(a))), 1) << a;
  }
  EXPECT_EQ(Gf256Invert(0), 0);
}

TEST(ShamirTest, EverySubsetOfTSharesRestoresTheSecret) {
  crypto::CtrRandom random(SeedFor("shamir"));
  for (uint32_t n = 1; n <= 7; ++n) {
    for (uint32_t t = 1; t <= n; ++t) {
      const Secret32 secret = random.Seed();
      const auto shares = SplitSecret(secret, t, Sites(n), random).value();
      for (uint32_t subset = 0; subset < (1u << n); ++subset) {
        if (static_cast<uint32_t>(std::popcount(subset)) < t) continue;
        std::vector<ShamirShare> some;
        for (uint32_t i = 0; i < n; ++i) {
          if ((subset >> i) & 1) some.push_back(shares[i]);
        }
        ASSERT_TRUE(ReconstructSecret(some, t).value() == secret) << n << " " << t << " " << subset;
      }
    }
  }
}

TEST(ShamirTest, RestoresWithAHundredSitesAndWithGapsInTheirNumbers) {
  crypto::CtrRandom random(SeedFor("shamir 100"));
  const Secret32 secret = random.Seed();
  auto shares = SplitSecret(secret, 67, Sites(100), random).value();
  shares.erase(shares.begin(), shares.begin() + 33);
  EXPECT_TRUE(ReconstructSecret(shares, 67).value() == secret);
  const std::vector<SiteIndex> sparse = {100, 3, 57, 8};
  const auto four = SplitSecret(secret, 3, sparse, random).value();
  EXPECT_EQ(four[0].x, 100);
  EXPECT_TRUE(ReconstructSecret(std::span(four).subspan(1), 3).value() == secret);
}

TEST(ShamirTest, OneShareTooFewGivesAnotherSecret) {
  crypto::CtrRandom random(SeedFor("too few"));
  const Secret32 secret = random.Seed();
  const auto shares = SplitSecret(secret, 4, Sites(5), random).value();
  EXPECT_FALSE(ReconstructSecret(shares, 3).value() == secret);
  EXPECT_FALSE(ReconstructSecret(std::span(shares).first(3), 4).ok());
}

// With t − 1 shares every value of the secret is equally likely: the shares that t − 1 sites hold have the
// same distribution whatever the secret is. Pearson's statistic of each share byte against uniform, and of
// pairs of shares, for two very different secrets. 255 degrees of freedom: mean 255, standard deviation 22.6;
// the bound 450 is 8.6 of them away. False alarm below 1e-10 for each of the 12 statistics.
TEST(ShamirTest, SharesBelowTheThresholdAreUniformWhateverTheSecret) {
  crypto::CtrRandom random(SeedFor("uniform"));
  for (uint8_t fill : {0x00, 0xff}) {
    Secret32 secret;
    for (uint8_t& b : secret.mutable_view()) b = fill;
    std::array<std::array<double, 256>, 6> counts{};
    constexpr int kTrials = 4000;
    for (int trial = 0; trial < kTrials; ++trial) {
      const auto shares = SplitSecret(secret, 3, Sites(3), random).value();
      for (size_t k = 0; k < 32; ++k) {
        const uint8_t a = shares[0].y.view()[k], b = shares[1].y.view()[k], c = shares[2].y.view()[k];
        ++counts[0][a];
        ++counts[1][b];
        ++counts[2][c];
        ++counts[3][a ^ b];  // any two of three: their difference too
        ++counts[4][b ^ c];
        ++counts[5][Gf256Multiply(a, 7) ^ c];
      }
    }
    const double expected = kTrials * 32 / 256.0;
    for (const auto& count : counts) {
      double chi2 = 0;
      for (double n : count) chi2 += (n - expected) * (n - expected) / expected;
      EXPECT_LT(chi2, 450);
      EXPECT_GT(chi2, 100);  // too even is not random either
    }
  }
}

TEST(ShamirTest, RefusesImpossibleSplits) {
  crypto::CtrRandom random(SeedFor("bad"));
  const Secret32 secret = random.Seed();
  EXPECT_FALSE(SplitSecret(secret, 0, Sites(3), random).ok());
  EXPECT_FALSE(SplitSecret(secret, 4, Sites(3), random).ok());
  EXPECT_FALSE(SplitSecret(secret, 2, Sites(101), random).ok());
  EXPECT_FALSE(SplitSecret(secret, 2, std::vector<SiteIndex>{1, 2, 1}, random).ok());
  EXPECT_FALSE(SplitSecret(secret, 2, std::vector<SiteIndex>{0, 1, 2}, random).ok());
  EXPECT_FALSE(SplitSecret(secret, 2, std::vector<SiteIndex>{1, 2, 101}, random).ok());
}

TEST(ShamirTest, RefusesRepeatedMissingAndZeroShares) {
  crypto::CtrRandom random(SeedFor("bad"));
  auto shares = SplitSecret(random.Seed(), 3, Sites(4), random).value();
  EXPECT_FALSE(ReconstructSecret({}, 0).ok());
  EXPECT_FALSE(ReconstructSecret({}, 3).ok());
  shares[1].x = 1;
  EXPECT_FALSE(ReconstructSecret(shares, 3).ok());
  shares[1].x = 0;
  EXPECT_FALSE(ReconstructSecret(shares, 3).ok());
}

}  // namespace
}  // namespace concordat::secagg::testing
