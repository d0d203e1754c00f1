#include "aggregation/modular_sum.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/bytes.h"

namespace concordat {
namespace {

TEST(ModularSumTest, AddsModuloTwoToTheThirtyTwo) {
  ModularSum sum(4);
  ASSERT_TRUE(sum.Add(0, std::vector<uint32_t>{1, 0xffffffffU, 0x80000000U, 5}).ok());
  ASSERT_TRUE(sum.Add(1, std::vector<uint32_t>{2, 0x80000000U}).ok());
  EXPECT_EQ(std::vector<uint32_t>(sum.words().begin(), sum.words().end()),
            (std::vector<uint32_t>{1, 1, 0, 5}));
}

TEST(ModularSumTest, SubtractingUndoesAdding) {
  ModularSum sum(3);
  const std::vector<uint32_t> a = {7, 0xfffffff0U, 1}, b = {0x12345678U, 0x90abcdefU, 0xffffffffU};
  ASSERT_TRUE(sum.Add(0, a).ok());
  ASSERT_TRUE(sum.Add(0, b).ok());
  ASSERT_TRUE(sum.Subtract(0, b).ok());
  EXPECT_EQ(std::vector<uint32_t>(sum.words().begin(), sum.words().end()), a);
}

TEST(ModularSumTest, BytesAreLittleEndianWords) {
  ModularSum sum(2);
  ASSERT_TRUE(sum.AddBytes(1, Bytes{0x78, 0x56, 0x34, 0x12}).ok());
  EXPECT_EQ(sum.words()[1], 0x12345678U);
  EXPECT_FALSE(sum.AddBytes(0, Bytes{1, 2, 3}).ok());
  EXPECT_FALSE(sum.AddBytes(1, Bytes(8)).ok());
}

TEST(ModularSumTest, RefusesPiecesPastTheEndAndChangesNothing) {
  ModularSum sum(3);
  EXPECT_EQ(sum.Add(2, std::vector<uint32_t>{1, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(sum.Add(~uint64_t{0}, std::vector<uint32_t>{1, 1}).ok());
  EXPECT_FALSE(sum.Subtract(4, {}).ok());
  EXPECT_TRUE(sum.Add(3, {}).ok());
  for (const uint32_t w : sum.words()) EXPECT_EQ(w, 0U);
}

TEST(ModularSumTest, ClearLeavesNothing) {
  ModularSum sum(3);
  sum.Clear();
  EXPECT_EQ(sum.elements(), 0U);
}

}  // namespace
}  // namespace concordat
