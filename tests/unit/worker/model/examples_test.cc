#include "worker/model/examples.h"

#include <gtest/gtest.h>

#include <set>

#include "worker/model/batch_plan.h"

namespace concordat::model {
namespace {

/// A tokenizer whose tokens are the letters and the ChatML markers.
std::unique_ptr<Tokenizer> Letters(bool add_bos = false) {
  TokenizerSpec spec;
  for (char c = 'a'; c <= 'z'; ++c) spec.tokens.push_back({std::string(1, c), TokenizerSpec::Kind::kNormal});
  spec.tokens.push_back({"\u010a", TokenizerSpec::Kind::kNormal});  // newline, 26
  spec.tokens.push_back({"<|im_start|>", TokenizerSpec::Kind::kSpecial});
  spec.tokens.push_back({"<|im_end|>", TokenizerSpec::Kind::kSpecial});
  spec.bos = 27;
  spec.eos = 28;
  spec.add_bos = add_bos;
  return *Tokenizer::Make(std::move(spec));
}

Document Text(std::string text) {
  Document d;
  d.text = std::move(text);
  return d;
}

std::vector<int32_t> Tokens(std::string_view letters) {
  std::vector<int32_t> out;
  for (const char c : letters) out.push_back(c - 'a');
  return out;
}

TEST(ExamplesTest, CountsEveryTokenOfATextButTheFirst) {
  const auto t = Letters();
  const std::vector<Document> documents = {Text("abcd")};
  const auto set = MakeExamples(*t, nullptr, documents, 8);
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->examples.size(), 1u);
  EXPECT_EQ(set->examples[0].tokens, Tokens("abcd"));
  EXPECT_EQ(set->examples[0].target, (std::vector<uint8_t>{0, 1, 1, 1}));
  EXPECT_EQ(set->examples[0].bytes, 3u);
  EXPECT_EQ(set->examples[0].targets, 3u);
}

TEST(ExamplesTest, CutsLongTextsSoThatEachTargetCountsOnce) {
  const auto t = Letters();
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  for (uint32_t length = 2; length <= 30; ++length) {
    const std::vector<Document> documents = {Text(text)};
    const auto set = MakeExamples(*t, nullptr, documents, length);
    ASSERT_TRUE(set.ok());
    std::string scored;
    for (const Example& e : set->examples) {
      EXPECT_LE(e.tokens.size(), length);
      EXPECT_EQ(e.target[0], 0);
      for (size_t i = 0; i < e.tokens.size(); ++i) {
        if (e.target[i]) scored += static_cast<char>('a' + e.tokens[i]);
      }
    }
    EXPECT_EQ(scored, text.substr(1)) << length;
    EXPECT_EQ(set->bytes, 25u);
    EXPECT_EQ(set->targets, 25u);
  }
}

TEST(ExamplesTest, CountsCompletionAndEndOfSequenceOnly) {
  const auto t = Letters();
  Document d;
  d.kind = DocumentKind::kPromptCompletion;
  d.prompt = "abc";
  d.completion = "xy";
  const auto set = MakeExamples(*t, nullptr, {&d, 1}, 16);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->examples[0].tokens, (std::vector<int32_t>{0, 1, 2, 23, 24, 28}));
  EXPECT_EQ(set->examples[0].target, (std::vector<uint8_t>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(set->bytes, 2u);
}

TEST(ExamplesTest, LeavesOutWindowsWithoutTarget) {
  const auto t = Letters();
  Document d;
  d.kind = DocumentKind::kPromptCompletion;
  d.prompt = "abcdefghijkl";
  d.completion = "z";
  const auto set = MakeExamples(*t, nullptr, {&d, 1}, 4);
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->examples.size(), 2u);  // tokens 10-12 with "z" the last, then the end of sequence
  EXPECT_EQ(set->targets, 2u);
}

TEST(ExamplesTest, CountsDocumentsThatTeachNothing) {
  const auto t = Letters();
  const std::vector<Document> documents = {Text("a"), Text("ab"), Text("123")};
  const auto set = MakeExamples(*t, nullptr, documents, 4);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->examples.size(), 1u);
  EXPECT_EQ(set->documents_without_target, 2u);
}

TEST(ExamplesTest, PutsTheBeginningOfSequenceFirstWhereTheModelWantsIt) {
  const auto t = Letters(true);
  const std::vector<Document> documents = {Text("ab")};
  const auto set = MakeExamples(*t, nullptr, documents, 4);
  EXPECT_EQ(set->examples[0].tokens, (std::vector<int32_t>{27, 0, 1}));
  EXPECT_EQ(set->bytes, 2u);
}

TEST(ExamplesTest, RendersMessagesAndRefusesThemWithoutATemplate) {
  const auto t = Letters();
  Document d;
  d.kind = DocumentKind::kMessages;
  d.messages = {{"user", "q"}, {"assistant", "yes"}};
  d.digest.bytes[3] = 9;
  EXPECT_EQ(MakeExamples(*t, nullptr, {&d, 1}, 64).status().code(), StatusCode::kInvalidArgument);
  const auto chat = ChatTemplate::Make(*t);
  ASSERT_TRUE(chat.ok());
  const auto set = MakeExamples(*t, &*chat, {&d, 1}, 64);
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->targets, 4u);  // y e s and the end of the turn
  EXPECT_EQ(set->bytes, 3u);
  EXPECT_EQ(set->examples[0].document, d.digest);
}

TEST(ExamplesTest, EveryWindowKeepsItsRecordAndItsPerson) {
  std::vector<Document> documents = {Text("abcdefgh"), Text("ab")};
  documents[0].digest.bytes[0] = 1;
  documents[0].person.bytes[0] = 2;
  documents[1].digest.bytes[0] = 3;
  const auto set = MakeExamples(*Letters(), nullptr, documents, 4);
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->examples.size(), 4u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(set->examples[i].document, documents[0].digest);
    EXPECT_EQ(set->examples[i].person, documents[0].person);
  }
  EXPECT_EQ(set->examples[3].document, documents[1].digest);
  EXPECT_TRUE(set->examples[3].person.is_zero());
}

TEST(ExamplesTest, RefusesASequenceLengthBelowTwo) {
  EXPECT_FALSE(MakeExamples(*Letters(), nullptr, {}, 1).ok());
  EXPECT_EQ(MakeExamples(*Letters(), nullptr, {}, 2)->examples.size(), 0u);
}

Secret32 Seed(uint8_t v) { return Secret32{std::array<uint8_t, 32>{v}}; }

TEST(BatchPlanTest, VisitsEveryExampleOnceAnEpoch) {
  BatchPlan plan(Seed(1), 10, 4);
  std::vector<uint32_t> seen;
  for (uint64_t i = 0; i < 5; ++i) {
    for (const uint32_t e : plan.Batch(i)) seen.push_back(e);
  }
  for (size_t epoch = 0; epoch < 2; ++epoch) {
    EXPECT_EQ(std::set<uint32_t>(seen.begin() + static_cast<std::ptrdiff_t>(epoch * 10),
                                 seen.begin() + static_cast<std::ptrdiff_t>(epoch * 10 + 10))
                  .size(),
              10u);
  }
  EXPECT_FALSE(std::equal(seen.begin(), seen.begin() + 10, seen.begin() + 10));
}

TEST(BatchPlanTest, GivesTheSameBatchesForTheSameSeedInAnyOrder) {
  BatchPlan one(Seed(1), 100, 7), two(Seed(1), 100, 7), other(Seed(2), 100, 7);
  const auto late = two.Batch(50);
  for (uint64_t i = 0; i < 50; ++i) (void)one.Batch(i);
  EXPECT_EQ(one.Batch(50), late);
  EXPECT_EQ(one.Batch(3), two.Batch(3));
  EXPECT_NE(one.Batch(3), other.Batch(3));
}

TEST(BatchPlanTest, HandlesNoExamplesAndBatchesLargerThanTheSet) {
  EXPECT_TRUE(BatchPlan(Seed(1), 0, 4).Batch(9).empty());
  const auto batch = BatchPlan(Seed(1), 3, 7).Batch(0);
  EXPECT_EQ(batch.size(), 7u);
  for (const uint32_t e : batch) EXPECT_LT(e, 3u);
}

TEST(BatchPlanTest, ShufflesWithoutFavouringAnyPlace) {
  // 6000 permutations of 6: each example is first 1000 times give or take 29; 8 of that is a false alarm
  // below 1e-13.
  std::array<int, 6> first{};
  BatchPlan plan(Seed(3), 6, 6);
  for (uint64_t i = 0; i < 6000; ++i) ++first[plan.Batch(i)[0]];
  for (const int n : first) EXPECT_NEAR(n, 1000, 8 * 29);
}

}  // namespace
}  // namespace concordat::model
