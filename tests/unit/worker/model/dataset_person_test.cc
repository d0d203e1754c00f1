#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/model/dataset.h"

namespace concordat::model {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

class DatasetPersonTest : public ::testing::Test {
 protected:
  std::filesystem::path Write(const std::string& name, std::string_view content) {
    std::ofstream(dir_ / name, std::ios::binary) << content;
    return dir_ / name;
  }
  StatusOr<Dataset> Read(std::string_view content, std::string_view field = "patient_id") {
    return ReadDataset(Write("d.jsonl", content), {}, field);
  }
  void ExpectRefused(std::string_view content, const std::string& what) {
    const auto read = Read(content);
    EXPECT_THAT(read, HasStatus(StatusCode::kInvalidArgument, what));
    EXPECT_EQ(concordat::Message(read.status()).find("SECRET"), std::string_view::npos) << read.status();
  }
  DatasetSplit Split(std::string_view content, std::string_view field, uint32_t permille) {
    auto read = Read(content, field);
    EXPECT_TRUE(read.ok()) << read.status();
    auto split = SplitDataset(*std::move(read), key_, permille);
    EXPECT_TRUE(split.ok()) << split.status();
    return *std::move(split);
  }

  TempDir dir_;
  Secret32 key_{std::array<uint8_t, 32>{1, 2, 3}};
};

std::vector<Document> All(const DatasetSplit& split) {
  std::vector<Document> all = split.train;
  all.insert(all.end(), split.held_out.begin(), split.held_out.end());
  return all;
}

TEST_F(DatasetPersonTest, EveryRecordNamesItsPersonByAStringOrAnInteger) {
  ASSERT_OK_AND_ASSIGN(const Dataset read, Read(R"({"text":"a","patient_id":"P-7"}
{"patient_id":-12,"text":"b"}
{"text":"c","patient_id":18446744073709551615}
)"));
  ASSERT_EQ(read.documents.size(), 3u);
  EXPECT_EQ(read.documents[0].person_id, "P-7");
  EXPECT_EQ(read.documents[1].person_id, "-12");
  EXPECT_EQ(read.documents[2].person_id, "18446744073709551615");
  EXPECT_EQ(read.bytes, 3u) << "ids are not content";
}

TEST_F(DatasetPersonTest, ARecordWithoutAPersonIsRefusedWithItsLineAndWithoutContent) {
  const std::string good = "{\"text\":\"x\",\"patient_id\":\"a\"}\n";
  ExpectRefused(good + R"({"text":"SECRET"})",
                "d.jsonl:2: field 'patient_id' is missing: a privacy budget for persons needs it in every "
                "record");
  ExpectRefused(good + "\n" + R"({"text":"SECRET","Patient_id":"a"})", "d.jsonl:3: field 'patient_id'");
  ExpectRefused(R"({"text":"","note":"SECRET"})", "d.jsonl:1: field 'patient_id' is missing");
  for (const char* id : {"null", "true", "\"\"", "1.5", "7.0", "18446744073709551616", "[\"SECRET\"]",
                         "{\"SECRET\":1}", "1e3"}) {
    ExpectRefused(good + fmt::format("{{\"text\":\"SECRET\",\"patient_id\":{}}}", id),
                  "d.jsonl:2: field 'patient_id': expected a string that is not empty, or an integer");
  }
}

TEST_F(DatasetPersonTest, PlainTextNamesNoPersons) {
  const auto file = Write("a.txt", "text");
  EXPECT_THAT(ReadDataset(file, {}, "patient_id"),
              HasStatus(StatusCode::kInvalidArgument, "plain text names no persons"));
  EXPECT_THAT(ReadDataset(dir_.path(), {}, "patient_id"),
              HasStatus(StatusCode::kInvalidArgument, "plain text names no persons"));
  EXPECT_OK(ReadDataset(dir_.path()));
}

TEST_F(DatasetPersonTest, AnIntegerAndTheStringThatLooksLikeItAreOnePerson) {
  const DatasetSplit split = Split(R"({"text":"a","patient_id":7}
{"text":"b","patient_id":"7"}
{"text":"c","patient_id":"07"}
{"text":"d","patient_id":"7 "}
)",
                                   "patient_id", 0);
  std::map<std::string, Digest> person;
  for (const Document& d : split.train) person[d.text] = d.person;
  EXPECT_EQ(person["a"], person["b"]);
  std::set<Digest> others = {person["a"], person["c"], person["d"]};
  EXPECT_EQ(others.size(), 3u) << "strings are compared byte by byte";
}

TEST_F(DatasetPersonTest, TheSplitTurnsTheIdIntoAKeyedDigestAndErasesIt) {
  const std::string lines = "{\"text\":\"P-7\",\"patient_id\":\"P-7\"}\n";
  const DatasetSplit one = Split(lines, "patient_id", 0);
  ASSERT_EQ(one.train.size(), 1u);
  EXPECT_TRUE(one.train[0].person_id.empty());
  EXPECT_FALSE(one.train[0].person.is_zero());
  EXPECT_NE(one.train[0].person, one.train[0].digest);
  key_ = Secret32{std::array<uint8_t, 32>{9}};
  EXPECT_NE(Split(lines, "patient_id", 0).train[0].person, one.train[0].person);
}

TEST_F(DatasetPersonTest, WithoutAFieldNothingIsReadOrChanged) {
  const std::string with = R"({"text":"a","patient_id":"x"})"
                           "\n"
                           R"({"text":"b","patient_id":"x"})";
  const std::string without = "{\"text\":\"a\"}\n{\"text\":\"b\"}";
  const auto a = All(Split(with, "", 500)), b = All(Split(without, "", 500));
  const auto c = All(Split(with, "patient_id", 500));
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].text, b[i].text);
    EXPECT_EQ(a[i].digest, b[i].digest);
    EXPECT_TRUE(a[i].person.is_zero());
    EXPECT_TRUE(a[i].person_id.empty());
  }
  for (const Document& d : c) {
    const auto same = std::find_if(a.begin(), a.end(), [&](const Document& o) { return o.text == d.text; });
    EXPECT_EQ(d.digest, same->digest) << "a record's digest does not depend on its person";
  }
}

std::string Lines(int persons, int records_each, int first_person = 0) {
  std::string out;
  for (int r = 0; r < records_each; ++r) {
    for (int p = first_person; p < persons; ++p)
      out += fmt::format("{{\"text\":\"record {} of {}\",\"patient_id\":\"p{}\"}}\n", r, p, p);
  }
  return out;
}

std::set<Digest> Persons(const std::vector<Document>& side) {
  std::set<Digest> out;
  for (const Document& d : side) out.insert(d.person);
  return out;
}

TEST_F(DatasetPersonTest, NoPersonIsOnBothSidesAndNoneChangesSides) {
  const DatasetSplit split = Split(Lines(300, 4), "patient_id", 200);
  const std::set<Digest> train = Persons(split.train), held_out = Persons(split.held_out);
  EXPECT_EQ(train.size() + held_out.size(), 300u) << "somebody is on both sides";
  EXPECT_EQ(split.train.size(), 4 * train.size());
  // Binomial(300, 0.2): outside [25, 100] with probability below 1e-6, and the key is fixed.
  EXPECT_GE(held_out.size(), 25u);
  EXPECT_LE(held_out.size(), 100u);

  const DatasetSplit fewer = Split(Lines(300, 2, 150), "patient_id", 200);
  for (const Digest& p : Persons(fewer.train)) EXPECT_TRUE(train.contains(p));
  for (const Digest& p : Persons(fewer.held_out)) EXPECT_TRUE(held_out.contains(p));
}

TEST_F(DatasetPersonTest, OneTextOfTwoPersonsStaysOneRecordOfEach) {
  const std::string lines = R"({"text":"same","patient_id":"b"}
{"text":"same","patient_id":"a"}
{"text":"same","patient_id":"b"}
{"text":"other","patient_id":"c"}
)";
  const DatasetSplit split = Split(lines, "patient_id", 0);
  ASSERT_EQ(split.train.size(), 4u) << "nothing is merged";
  std::map<Digest, int> copies;
  std::set<Digest> texts;
  for (const Document& d : split.train) {
    texts.insert(d.digest);
    copies[d.person] += d.text == "same" ? 1 : 0;
  }
  EXPECT_EQ(texts.size(), 2u) << "a record's digest does not depend on its person";
  std::multiset<int> counts;
  for (const auto& [person, count] : copies) counts.insert(count);
  EXPECT_EQ(counts, (std::multiset<int>{0, 1, 2}));

  // The order says nothing about the file's, among equal texts either.
  const DatasetSplit turned = Split(R"({"text":"other","patient_id":"c"}
{"text":"same","patient_id":"a"}
{"text":"same","patient_id":"b"}
{"text":"same","patient_id":"b"}
)",
                                    "patient_id", 0);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(split.train[i].person, turned.train[i].person) << i;
}

}  // namespace
}  // namespace concordat::model
