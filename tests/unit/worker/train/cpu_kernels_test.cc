#include "worker/train/cpu_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/unit/worker/train/random_model.h"

// What the gradient tests do not reach: extreme values, ties, empty and padded parts. Those compare every
// kernel with autograd on ordinary values.
namespace concordat::train::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float Wide(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

class CpuKernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!Avx512Bf16Available()) GTEST_SKIP() << "this CPU has no AVX-512 BF16; nothing calls these kernels";
  }
};

struct Scored {
  float log_likelihood = 0;
  uint8_t correct = 0;
};
Scored Score(std::vector<float>& logits, int64_t target, bool gradient) {
  Scored out;
  CrossEntropy(logits.data(), static_cast<int64_t>(logits.size()), &target, &out.log_likelihood, &out.correct,
               gradient, 1, static_cast<int64_t>(logits.size()));
  return out;
}

TEST_F(CpuKernelsTest, CrossEntropyOfHugeLogitsDoesNotOverflow) {
  std::vector<float> logits = {1e30F, -1e30F, 1e30F, -kInfinity, 3};
  const Scored scored = Score(logits, 2, true);
  EXPECT_NEAR(scored.log_likelihood, -std::log(2.0), 1e-6);
  EXPECT_EQ(logits, (std::vector<float>{0.5F, 0, -0.5F, 0, 0}));
}

TEST_F(CpuKernelsTest, CrossEntropyAgreesWithF64AtEveryWidthAroundARegister) {
  for (const size_t width : {1, 2, 15, 16, 17, 31, 32, 33, 1000}) {
    std::vector<float> logits(width);
    for (size_t i = 0; i < width; ++i) logits[i] = static_cast<float>(20 * HashUnit(width, i));
    const std::vector<float> before = logits;
    const auto target = static_cast<int64_t>(width / 2);
    double sum = 0;
    for (const float x : before) sum += std::exp(static_cast<double>(x));
    const double expected = before[static_cast<size_t>(target)] - std::log(sum);
    EXPECT_NEAR(Score(logits, target, true).log_likelihood, expected, 1e-5 * (1 + std::abs(expected)));
    for (size_t i = 0; i < width; ++i) {
      const double p = std::exp(static_cast<double>(before[i])) / sum;
      EXPECT_NEAR(logits[i], p - (static_cast<int64_t>(i) == target ? 1 : 0), 1e-6) << width << " " << i;
    }
  }
}

TEST_F(CpuKernelsTest, OnlyTheFirstOfEqualLargestLogitsCountsAsCorrect) {
  std::vector<float> logits(40, 1.0F);
  logits[7] = logits[20] = 2.0F;
  EXPECT_EQ(Score(logits, 7, false).correct, 1);
  EXPECT_EQ(Score(logits, 20, false).correct, 0);
  EXPECT_EQ(Score(logits, 0, false).correct, 0);
}

TEST_F(CpuKernelsTest, ALogitThatIsNotANumberShowsInTheLikelihood) {
  std::vector<float> logits(40, 1.0F);
  logits[33] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(Score(logits, 7, false).log_likelihood));
}

TEST_F(CpuKernelsTest, SwiGluIsFiniteForGatesFarFromZero) {
  const std::vector<float> gate_up = {-1000, -100, 0, 100, 1000, 1, 1, 1, 1, 1};
  std::vector<float> out(5);
  SwiGlu(gate_up.data(), 10, out.data(), 5, 1, 5);
  EXPECT_EQ(out, (std::vector<float>{out[0], out[1], 0, 100, 1000}));
  EXPECT_NEAR(out[0], 0, 1e-30);
  EXPECT_NEAR(out[1], 0, 1e-30);
  const std::vector<float> dout(5, 1.0F);
  std::vector<float> d(10);
  SwiGluBackward(gate_up.data(), 10, dout.data(), 5, d.data(), 10, out.data(), 5, 1, 5);
  EXPECT_NEAR(d[0], 0, 1e-30);
  EXPECT_FLOAT_EQ(d[2], 0.5F);
  EXPECT_FLOAT_EQ(d[4], 1.0F);
  EXPECT_FLOAT_EQ(d[9], 1000.0F);
}

TEST_F(CpuKernelsTest, SoftmaxBlockHidesLaterKeysAndWritesZerosThere) {
  constexpr int64_t kColumns = 48;
  std::vector<float> scores(3 * kColumns, 0.0F);
  scores[2 * kColumns + 40] = kInfinity;  // hidden from row 2, which sees 17 + 2 + 1 columns
  std::vector<Bf16> out(3 * kColumns, Bf16{0xFFFF});
  float lse[3];
  float inverse[3];
  SoftmaxBlock(scores.data(), kColumns, 0.5F, out.data(), kColumns, lse, inverse, 17, 3, kColumns);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) EXPECT_EQ(Wide(out[r * kColumns + c]), c <= 17 + r ? 1.0F : 0.0F);
    EXPECT_FLOAT_EQ(lse[r], std::log(static_cast<float>(18 + r)));
    EXPECT_FLOAT_EQ(inverse[r], 1.0F / static_cast<float>(18 + r));
  }
}

TEST_F(CpuKernelsTest, PackedFactorsHoldEachValueWhereTheProductLooksForIt) {
  constexpr int64_t kRows = 64;
  constexpr int64_t kColumns = 32;
  constexpr int64_t kValid = 63;
  constexpr int64_t kPanel = 16;
  std::vector<Bf16> x(kRows * kColumns);
  for (size_t i = 0; i < x.size(); ++i) x[i].bits = static_cast<uint16_t>(i + 1);
  const auto at = [&](int64_t r, int64_t c) { return r < kValid ? x[r * kColumns + c].bits : uint16_t{0}; };
  std::vector<Bf16> pairs(x.size());
  std::vector<Bf16> transposed(x.size());
  std::vector<Bf16> plain(x.size());
  PackPairs(x.data(), kColumns, kValid, pairs.data(), kRows, kColumns, kPanel);
  PackPairsTransposed(x.data(), kColumns, kValid, transposed.data(), kRows, kColumns, kPanel);
  Transpose(x.data(), kColumns, kValid, plain.data(), kRows, kColumns);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const int64_t p = (c / kPanel) * kRows * kPanel + (r / 2) * kPanel * 2 + (c % kPanel) * 2 + r % 2;
      const int64_t t = (r / kPanel) * kColumns * kPanel + (c / 2) * kPanel * 2 + (r % kPanel) * 2 + c % 2;
      ASSERT_EQ(pairs[p].bits, at(r, c)) << r << " " << c;
      ASSERT_EQ(transposed[t].bits, at(r, c)) << r << " " << c;
      ASSERT_EQ(plain[c * kRows + r].bits, at(r, c)) << r << " " << c;
    }
  }
}

TEST_F(CpuKernelsTest, RoundsToBf16ToNearestEven) {
  const std::vector<float> in = {1.0F, 1.0F + 0x1p-8F, 1.0F + 0x3p-8F, 1.0F + 0x1.1p-8F, -2.5F};
  std::vector<Bf16> out(5);
  ScaleRows(in.data(), 5, nullptr, out.data(), 5, 1, 5);
  const std::vector<float> expected = {1.0F, 1.0F, 1.0F + 0x1p-6F, 1.0F + 0x1p-7F, -2.5F};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(Wide(out[i]), expected[i]) << i;
}

}  // namespace
}  // namespace concordat::train::cpu
