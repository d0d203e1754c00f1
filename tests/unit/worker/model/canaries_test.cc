#include "worker/model/canaries.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "tests/support/status_matchers.h"

namespace concordat::model {
namespace {

using concordat::testing::HasStatus;

const Secret32 kKey{std::array<uint8_t, 32>{1, 2, 3}};
const Secret32 kSplit{std::array<uint8_t, 32>{9}};

CanarySet Make(uint32_t count, DocumentKind kind = DocumentKind::kText, bool persons = false,
               const Secret32& key = kKey) {
  auto set = MakeCanaries(key, count, kind, kSplit, persons);
  EXPECT_OK(set);
  return *std::move(set);
}

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text.substr(text.find(':') + 1));
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

TEST(CanariesTest, AreTheSameForAKeyAndOthersForAnother) {
  const CanarySet a = Make(16), same = Make(16), longer = Make(20);
  const CanarySet other = Make(16, DocumentKind::kText, false, Secret32{std::array<uint8_t, 32>{4}});
  ASSERT_EQ(a.canaries.size(), 16u);
  ASSERT_EQ(a.references.size(), 16u * kReferencesPerCanary);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(a.canaries[i].document.text, same.canaries[i].document.text);
    EXPECT_EQ(a.canaries[i].trained_on, same.canaries[i].trained_on);
    EXPECT_EQ(a.canaries[i].document.text, longer.canaries[i].document.text);
    EXPECT_NE(a.canaries[i].document.text, other.canaries[i].document.text);
    EXPECT_EQ(a.canaries[i].document.digest, same.canaries[i].document.digest);
  }
}

TEST(CanariesTest, NoTwoAreAlikeAndReferencesAreMadeAsCanariesAre) {
  const CanarySet set = Make(500);
  std::set<std::string> texts;
  std::set<Digest> digests;
  for (const Canary& c : set.canaries) {
    texts.insert(c.document.text);
    digests.insert(c.document.digest);
  }
  for (const Document& d : set.references) {
    texts.insert(d.text);
    digests.insert(d.digest);
    EXPECT_EQ(Words(d.text).size(), 12u);
    EXPECT_EQ(d.text.substr(0, 22), set.canaries[0].document.text.substr(0, 22)) << "one format for all";
  }
  EXPECT_EQ(texts.size(), 2500u);
  EXPECT_EQ(digests.size(), 2500u);
}

// 24,000 words, each of 256 as likely: chi-square with 255 degrees, mean 255, deviation 22.6; five
// deviations. Coins: 500 with deviation 11.2.
TEST(CanariesTest, WordsAndCoinsAreFair) {
  const CanarySet set = Make(500);
  std::map<std::string, int> counts;
  int planted = 0;
  for (const Canary& c : set.canaries) planted += c.trained_on;
  for (const Document& d : set.references) {
    std::string text = d.text;
    text.pop_back();  // the full stop
    for (const std::string& word : Words(text)) ++counts[word];
  }
  EXPECT_EQ(counts.size(), 256u);
  const double expected = 2000.0 * 12 / 256;
  double chi_square = 0;
  for (const auto& [word, n] : counts) chi_square += (n - expected) * (n - expected) / expected;
  EXPECT_NEAR(chi_square, 255, 5 * 22.6);
  EXPECT_NEAR(planted, 250, 5 * 11.2);
}

TEST(CanariesTest, TakeTheFormOfTheDatasetsRecords) {
  const CanarySet text = Make(8), prompt = Make(8, DocumentKind::kPromptCompletion),
                  chat = Make(8, DocumentKind::kMessages);
  EXPECT_EQ(text.canaries[0].document.kind, DocumentKind::kText);
  const Document& p = prompt.canaries[0].document;
  EXPECT_EQ(p.prompt + p.completion, text.canaries[0].document.text);
  const Document& m = chat.canaries[0].document;
  ASSERT_EQ(m.messages.size(), 2u);
  EXPECT_EQ(m.messages[0].role, "user");
  EXPECT_EQ(m.messages[1].role, "assistant");
  EXPECT_EQ(" " + m.messages[1].content, p.completion);
}

TEST(CanariesTest, AreUnitsOfTheirOwn) {
  for (const Canary& c : Make(8).canaries) EXPECT_TRUE(c.document.person.is_zero());
  std::set<Digest> persons;
  for (const Canary& c : Make(50, DocumentKind::kText, true).canaries) {
    EXPECT_FALSE(c.document.person.is_zero());
    persons.insert(c.document.person);
  }
  EXPECT_EQ(persons.size(), 50u);
}

TEST(CanariesTest, ThoseWhoseCoinSaysSoArePlantedInTheOrderOfDigests) {
  std::vector<Document> train(3);
  for (size_t i = 0; i < 3; ++i) train[i].digest.bytes[0] = static_cast<uint8_t>(60 * (i + 1));
  const CanarySet set = Make(64);
  Plant(set, train);
  const auto planted =
      std::ranges::count_if(set.canaries, [](const Canary& canary) { return canary.trained_on; });
  EXPECT_EQ(train.size(), 3u + static_cast<size_t>(planted));
  EXPECT_TRUE(std::ranges::is_sorted(
      train, [](const Document& a, const Document& b) { return a.digest < b.digest; }));
  for (const Canary& canary : set.canaries) {
    const bool there =
        std::ranges::any_of(train, [&](const Document& d) { return d.digest == canary.document.digest; });
    EXPECT_EQ(there, canary.trained_on);
  }
}

TEST(CanariesTest, NoneAreNoneAndAFewAreTooFew) {
  EXPECT_TRUE(Make(0).canaries.empty());
  EXPECT_TRUE(Make(0).references.empty());
  for (const uint32_t count : {1U, kFewestCanaries - 1, kMostCanaries + 1, UINT32_MAX}) {
    EXPECT_THAT(MakeCanaries(kKey, count, DocumentKind::kText, kSplit, false),
                HasStatus(StatusCode::kInvalidArgument, "canaries"));
  }
}

}  // namespace
}  // namespace concordat::model
