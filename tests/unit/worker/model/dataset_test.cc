#include "worker/model/dataset.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "common/files.h"

namespace concordat::model {
namespace {

namespace fs = std::filesystem;

class DatasetTest : public testing::Test {
 protected:
  DatasetTest() {
    folder_ =
        fs::path(testing::TempDir()) /
        fmt::format("dataset_{}_{}", testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~DatasetTest() override { fs::remove_all(folder_); }

  fs::path Write(const std::string& name, std::string_view content) {
    fs::create_directories((folder_ / name).parent_path());
    if (!WriteFileAtomically(folder_ / name, content).ok()) throw std::runtime_error("cannot write " + name);
    return folder_ / name;
  }
  StatusOr<Dataset> Jsonl(std::string_view content) { return ReadDataset(Write("d.jsonl", content)); }
  void ExpectRefused(std::string_view content, std::string_view what) {
    const auto read = Jsonl(content);
    ASSERT_FALSE(read.ok()) << what;
    EXPECT_EQ(read.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(concordat::Message(read.status()).find(what), std::string_view::npos) << read.status();
    EXPECT_EQ(concordat::Message(read.status()).find("SECRET"), std::string_view::npos) << read.status();
  }

  fs::path folder_;
  Secret32 key_{std::array<uint8_t, 32>{1, 2, 3}};
};

TEST_F(DatasetTest, ReadsTheThreeKindsOfLines) {
  const auto text = Jsonl("{\"text\":\"a\\u00e9\\n\"}\r\n\n{\"id\":7,\"text\":\"b\"}");
  ASSERT_TRUE(text.ok()) << text.status();
  ASSERT_EQ(text->documents.size(), 2u);
  EXPECT_EQ(text->documents[0].text, "a\u00e9\n");
  EXPECT_EQ(text->bytes, 5u);
  const auto prompt = Jsonl(R"({"prompt":"p","completion":"c"})");
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->kind, DocumentKind::kPromptCompletion);
  EXPECT_EQ(prompt->documents[0].completion, "c");
  const auto chat =
      Jsonl(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->documents[0].messages[1].content, "a");
}

TEST_F(DatasetTest, ReadsPlainTextFilesOfAFolderInOrderOfTheirPaths) {
  Write("b.txt", "B");
  Write("a/z.md", "AZ");
  Write("a/c.txt", "AC");
  Write("a/image.png", "\xff\xff");
  const auto read = ReadDataset(folder_);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->documents.size(), 3u);
  EXPECT_EQ(read->documents[0].text, "AC");
  EXPECT_EQ(read->documents[1].text, "AZ");
  EXPECT_EQ(read->documents[2].text, "B");
  const auto single = ReadDataset(folder_ / "b.txt");
  ASSERT_TRUE(single.ok());
  EXPECT_EQ(single->documents.size(), 1u);
}

TEST_F(DatasetTest, SkipsAndCountsEmptyRecords) {
  const auto read = Jsonl("{\"text\":\"\"}\n{\"text\":\"x\"}\n");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->documents.size(), 1u);
  EXPECT_EQ(read->skipped_empty, 1u);
}

TEST_F(DatasetTest, RefusesEmptyAndMissingDatasets) {
  EXPECT_EQ(ReadDataset(folder_ / "none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadDataset(folder_).status().code(), StatusCode::kInvalidArgument);
  ExpectRefused("", "empty");
  ExpectRefused("\n\n", "empty");
  ExpectRefused("{\"text\":\"\"}", "empty");
  EXPECT_EQ(ReadDataset(Write("d.csv", "a,b")).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(DatasetTest, RefusesBadLinesWithFileAndLineAndWithoutContent) {
  ExpectRefused("{\"text\":\"x\"}\n{\"text\":\"SECRET\xff\"}\n", "d.jsonl:2: not valid UTF-8");
  ExpectRefused("{\"text\":\"x\"}\n\n{\"text\":\"SECRET\"", "d.jsonl:3:");
  ExpectRefused("SECRET", "d.jsonl:1:");
  ExpectRefused("[\"SECRET\"]", "object");
  ExpectRefused("{\"text\":[\"SECRET\"]}", "text: expected a string");
  ExpectRefused("{\"SECRET\":1}", "exactly one of");
  ExpectRefused("{\"text\":\"SECRET\",\"text\":\"SECRET\"}", "twice");
  ExpectRefused("{\"text\":\"SECRET\",\"prompt\":\"x\",\"completion\":\"y\"}", "exactly one of");
  ExpectRefused("{\"prompt\":\"SECRET\"}", "completion: missing");
  ExpectRefused("{\"prompt\":\"SECRET\",\"completion\":null}", "completion: expected a string");
  ExpectRefused("{\"text\":\"x\"}\n{\"prompt\":\"SECRET\",\"completion\":\"y\"}",
                "d.jsonl:2: a record of kind prompt+completion");
  ExpectRefused("{\"text\":\"\\ud800SECRET\"}", "JSON");
  ExpectRefused(R"({"messages":[]})", "messages");
  ExpectRefused(R"({"messages":{"role":"user"}})", "messages");
  ExpectRefused(R"({"messages":["SECRET"]})", "turn 0");
  ExpectRefused(R"({"messages":[{"role":"user","content":"SECRET"}]})", "assistant");
  ExpectRefused(R"({"messages":[{"role":"SECRET","content":"x"}]})", "role");
  ExpectRefused(R"({"messages":[{"role":"assistant","content":7}]})", "turn 0: content");
  ExpectRefused(R"({"messages":[{"role":"assistant","content":"x"},{"role":"system","content":"SECRET"}]})",
                "turn 1");
}

TEST_F(DatasetTest, RefusesInvalidUtf8InAPlainTextFileWithItsLine) {
  const auto read = ReadDataset(Write("x.txt", "fine\nfine\nSECRET \xe9\nfine\n"));
  ASSERT_FALSE(read.ok());
  EXPECT_NE(concordat::Message(read.status()).find("x.txt:3: not valid UTF-8"), std::string_view::npos)
      << read.status();
  EXPECT_EQ(concordat::Message(read.status()).find("SECRET"), std::string_view::npos);
}

TEST_F(DatasetTest, RefusesAHundredMegabyteLineWithoutReadingItWhole) {
  // A sparse file: the line costs nothing on the disk, and must cost no more than the limit in memory.
  const fs::path path = Write("d.jsonl", "{\"text\":\"x\"}\n");
  fs::resize_file(path, 100 << 20);
  const auto read = ReadDataset(path);
  ASSERT_FALSE(read.ok());
  EXPECT_NE(concordat::Message(read.status()).find("d.jsonl:2: longer than 8388608 bytes"),
            std::string_view::npos)
      << read.status();
}

TEST_F(DatasetTest, AcceptsALineOfExactlyTheLimit) {
  DatasetLimits limits;
  limits.max_line_bytes = 20;
  const std::string line = "{\"text\":\"123456789\"}";
  ASSERT_EQ(line.size(), 20u);
  EXPECT_TRUE(ReadDataset(Write("d.jsonl", line + "\n" + line), limits).ok());
  limits.max_line_bytes = 19;
  EXPECT_FALSE(ReadDataset(folder_ / "d.jsonl", limits).ok());
}

TEST_F(DatasetTest, HoldsFilesAndDatasetsToTheirLimits) {
  DatasetLimits limits;
  limits.max_file_bytes = 3;
  Write("t/a.txt", "abcd");
  EXPECT_EQ(ReadDataset(folder_ / "t", limits).status().code(), StatusCode::kInvalidArgument);
  limits.max_file_bytes = 4;
  EXPECT_TRUE(ReadDataset(folder_ / "t", limits).ok());
  limits.max_total_bytes = 3;
  EXPECT_EQ(ReadDataset(folder_ / "t", limits).status().code(), StatusCode::kInvalidArgument);
}

Dataset Texts(const std::vector<std::string>& texts) {
  Dataset d;
  for (const std::string& t : texts) {
    d.documents.emplace_back();
    d.documents.back().text = t;
  }
  return d;
}

std::set<std::string> HeldOut(const DatasetSplit& s) {
  std::set<std::string> out;
  for (const Document& d : s.held_out) out.insert(d.text);
  return out;
}

TEST_F(DatasetTest, KeepsEveryDocumentOnItsSideWhateverElseIsThere) {
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) texts.push_back(fmt::format("document {}", i));
  const auto split = SplitDataset(Texts(texts), key_, 100);
  ASSERT_TRUE(split.ok());
  const auto held_out = HeldOut(*split);
  // Binomial(1000, 0.1): outside [50, 160] with probability below 1e-7, and the key is fixed.
  EXPECT_GE(held_out.size(), 50u);
  EXPECT_LE(held_out.size(), 160u);
  EXPECT_EQ(split->train.size() + split->held_out.size(), 1000u);

  std::vector<std::string> fewer(texts.rbegin(), texts.rbegin() + 500);
  const auto again = SplitDataset(Texts(fewer), key_, 100);
  ASSERT_TRUE(again.ok());
  for (const Document& d : again->train) EXPECT_FALSE(held_out.contains(d.text));
  for (const Document& d : again->held_out) EXPECT_TRUE(held_out.contains(d.text));
  // A larger share only adds to the held-out side.
  const auto larger = HeldOut(*SplitDataset(Texts(texts), key_, 200));
  for (const std::string& t : held_out) EXPECT_TRUE(larger.contains(t));
}

TEST_F(DatasetTest, PutsExactDuplicatesOnTheSameSideAndForgetsTheOrder) {
  const auto one = SplitDataset(Texts({"a", "b", "a", "c", "a"}), key_, 500);
  const auto two = SplitDataset(Texts({"c", "a", "a", "a", "b"}), key_, 500);
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_EQ(one->train.size(), two->train.size());
  for (size_t i = 0; i < one->train.size(); ++i) EXPECT_EQ(one->train[i].text, two->train[i].text);
  const auto count = [](const std::vector<Document>& side) {
    return std::count_if(side.begin(), side.end(), [](const Document& d) { return d.text == "a"; });
  };
  EXPECT_TRUE(count(one->train) == 3 || count(one->held_out) == 3);
}

TEST_F(DatasetTest, SplitsDifferentlyUnderAnotherKey) {
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) texts.push_back(fmt::format("{}", i));
  const Secret32 other{std::array<uint8_t, 32>{9}};
  EXPECT_NE(HeldOut(*SplitDataset(Texts(texts), key_, 500)),
            HeldOut(*SplitDataset(Texts(texts), other, 500)));
}

TEST_F(DatasetTest, GivesAllOrNothingAtTheEnds) {
  EXPECT_EQ(SplitDataset(Texts({"a", "b"}), key_, 0)->held_out.size(), 0u);
  EXPECT_EQ(SplitDataset(Texts({"a", "b"}), key_, 1000)->train.size(), 0u);
  EXPECT_FALSE(SplitDataset(Texts({"a"}), key_, 1001).ok());
}

TEST(DocumentTest, HasOneCanonicalFormForEachContent) {
  Document a, b;
  a.text = "x";
  b.prompt = "x";
  EXPECT_NE(a.Canonical(), b.Canonical());
  b = a;
  b.digest.bytes[0] = 1;
  EXPECT_EQ(a.Canonical(), b.Canonical());
  a = {};
  b = {};
  a.prompt = "ab";
  a.completion = "c";
  b.prompt = "a";
  b.completion = "bc";
  EXPECT_NE(a.Canonical(), b.Canonical());
}

}  // namespace
}  // namespace concordat::model
