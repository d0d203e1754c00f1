#include "common/shared_value.h"

#include <gtest/gtest.h>

#include <vector>

namespace concordat {
namespace {

TEST(SharedValueTest, CopiesAreOneObjectUntilOneIsChanged) {
  const SharedValue<std::vector<int>> first(std::vector<int>{1, 2, 3});
  SharedValue<std::vector<int>> second = first;
  EXPECT_EQ(&*first, &*second);
  second.Change()[0] = 7;
  EXPECT_EQ(*first, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(*second, (std::vector<int>{7, 2, 3}));
  const auto* there = &*second;
  second.Change().push_back(4);
  EXPECT_EQ(&*second, there) << "copied although nobody shared it";
}

TEST(SharedValueTest, EqualityIsThatOfTheValues) {
  const SharedValue<std::vector<int>> empty, same;
  EXPECT_EQ(empty, same);
  EXPECT_NE(empty, SharedValue(std::vector<int>{1}));
  EXPECT_EQ(SharedValue(std::vector<int>{1}), SharedValue(std::vector<int>{1}));
}

}  // namespace
}  // namespace concordat
