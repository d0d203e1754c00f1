#include "cli/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

// An evaluation's file is what a person hands in: `report --evaluation`.
namespace concordat::cli {
namespace {

nlohmann::json OneCell() {
  Evaluation e;
  e.job = Digest::FromHexText(std::string(64, 'a')).value();
  e.models = {"base"};
  e.adapters = {Digest{}};
  e.regions = {"spiffe://de/worker/w1"};
  e.epsilon_charged = {0.25};
  e.cells = {{{Cell::State::kWithheld, 0, 0, 521}}};
  return nlohmann::json(ToJson(e));
}

TEST(EvaluationTest, ComesBackFromItsFile) {
  const auto read = EvaluationFromJson(OneCell());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->cells[0][0].state, Cell::State::kWithheld);
  EXPECT_EQ(nlohmann::json(ToJson(*read)), OneCell());
}

TEST(EvaluationTest, RefusesACellWhoseStateIsNotText) {
  for (const nlohmann::json& state : {nlohmann::json(), nlohmann::json(1), nlohmann::json::array()}) {
    nlohmann::json json = OneCell();
    json["models"][0]["cells"][0]["state"] = state;
    const auto read = EvaluationFromJson(json);
    ASSERT_FALSE(read.ok()) << state;
    EXPECT_EQ(read.status().code(), StatusCode::kInvalidArgument) << state;
    EXPECT_THAT(Message(read.status()), ::testing::HasSubstr("state")) << state;
  }
}

TEST(EvaluationTest, RefusesACellWithoutState) {
  nlohmann::json json = OneCell();
  json["models"][0]["cells"][0].erase("state");
  EXPECT_EQ(EvaluationFromJson(json).status().code(), StatusCode::kInvalidArgument);
}

TEST(EvaluationTest, RefusesARuleThatWouldBeCutToAnother) {
  nlohmann::json json = OneCell();
  json["models"][0]["cells"][0]["rule"] = (uint64_t{1} << 32) + 521;
  EXPECT_EQ(EvaluationFromJson(json).status().code(), StatusCode::kInvalidArgument);
}

TEST(EvaluationTest, NamesFromAFileCannotWriteToATerminal) {
  nlohmann::json json = OneCell();
  json["regions"][0] = "a\x1b[2Jb";
  json["models"][0]["model"] = "c\nd";
  json["name"] = "e\x07";
  const auto read = EvaluationFromJson(json);
  ASSERT_TRUE(read.ok());
  for (const std::string& name : {read->regions[0], read->models[0], read->name})
    EXPECT_TRUE(std::ranges::none_of(name, [](unsigned char c) { return c < 0x20; })) << name;
}

}  // namespace
}  // namespace concordat::cli
