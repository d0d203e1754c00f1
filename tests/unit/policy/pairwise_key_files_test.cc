#include "policy/pairwise_key_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/files.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::policy {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

SpiffeId Site(const std::string& jurisdiction) {
  return *SpiffeId::Make(jurisdiction, Role::kWorker, "site");
}

class PairwiseKeyFilesTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::chmod(folder_.path().c_str(), 0700), 0); }
  std::filesystem::path Make(const std::string& name, const SpiffeId& one, const SpiffeId& other) {
    const auto file = folder_ / name;
    EXPECT_OK(MakePairwiseKeyFile(file, one, other, random_).status());
    return file;
  }
  void Write(const std::string& name, const std::string& text, unsigned mode = 0600) {
    ASSERT_OK(WriteFileAtomically(folder_ / name, text, mode));
  }
  auto Load() { return LoadPairwiseKeys(folder_.path(), de_); }

  TempDir folder_;
  crypto::CtrRandom random_{Secret32(crypto::Sha256(AsBytes("pairwise files")).bytes)};
  SpiffeId de_ = Site("de.example"), fr_ = Site("fr.example"), es_ = Site("es.example");
};

TEST_F(PairwiseKeyFilesTest, TheSameFileGivesBothWorkersTheSameKey) {
  Make("france.key", fr_, de_);
  Make("spain.key", de_, es_);
  ASSERT_OK_AND_ASSIGN(const auto mine, Load());
  ASSERT_EQ(mine.size(), 2u);
  EXPECT_FALSE(mine.at(fr_) == mine.at(es_));
  std::filesystem::remove(folder_ / "spain.key");
  ASSERT_OK_AND_ASSIGN(const auto theirs, LoadPairwiseKeys(folder_.path(), fr_));
  EXPECT_TRUE(theirs.at(de_) == mine.at(fr_));
  EXPECT_EQ(PairwiseKeyCheck(theirs.at(de_)), PairwiseKeyCheck(mine.at(fr_)));
  EXPECT_NE(PairwiseKeyCheck(mine.at(es_)), PairwiseKeyCheck(mine.at(fr_)));
}

TEST_F(PairwiseKeyFilesTest, AFileIsPrivateAndIsNeverWrittenOver) {
  const auto file = Make("a.key", de_, fr_);
  EXPECT_OK(CheckPrivateFile(file));
  ASSERT_OK_AND_ASSIGN(const std::string before, ReadTextFile(file));
  EXPECT_THAT(MakePairwiseKeyFile(file, de_, fr_, random_), HasStatus(StatusCode::kAlreadyExists, "a.key"));
  ASSERT_OK_AND_ASSIGN(const std::string after, ReadTextFile(file));
  EXPECT_EQ(before, after);
}

TEST_F(PairwiseKeyFilesTest, AKeyIsBetweenTwoWorkers) {
  const auto person = *SpiffeId::Make("fr.example", Role::kOperator, "anne");
  EXPECT_THAT(MakePairwiseKeyFile(folder_ / "x", de_, de_, random_),
              HasStatus(StatusCode::kInvalidArgument, "two"));
  EXPECT_THAT(MakePairwiseKeyFile(folder_ / "x", de_, person, random_),
              HasStatus(StatusCode::kInvalidArgument, "two"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x"));
}

TEST_F(PairwiseKeyFilesTest, WhatOthersMayReadIsRefused) {
  const auto file = Make("a.key", de_, fr_);
  ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
  EXPECT_THAT(Load(), HasStatus(StatusCode::kPermissionDenied, "chmod 600"));
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  for (unsigned mode : {0750u, 0701u, 0755u}) {
    ASSERT_EQ(::chmod(folder_.path().c_str(), mode), 0);
    EXPECT_THAT(Load(), HasStatus(StatusCode::kPermissionDenied, "chmod 700"));
  }
  EXPECT_THAT(LoadPairwiseKeys(folder_ / "nowhere", de_), HasStatus(StatusCode::kNotFound, "nowhere"));
  EXPECT_THAT(LoadPairwiseKeys(file, de_), HasStatus(StatusCode::kInvalidArgument, "a folder"));
}

TEST_F(PairwiseKeyFilesTest, AFileOfAnotherFormIsRefusedWithItsLineAndNothingOfItsContent) {
  const std::string hex = std::string(31, 'a') + "b" + std::string(32, 'c');
  const std::string head = "concordat pairwise key 1\n", de = de_.ToString() + "\n",
                    fr = fr_.ToString() + "\n";
  const std::pair<std::string, const char*> bad[] = {
      {"", ":1: "},
      {"concordat pairwise key 2\n" + de + fr + hex + "\n", ":1: "},
      {head + "spiffe://de.example/operator/anne\n" + fr + hex + "\n", ":2: "},
      {head + de + "fr.example\n" + hex + "\n", ":3: "},
      {head + de + de + hex + "\n", ":3: "},
      {head + fr + es_.ToString() + "\n" + hex + "\n",
       ":2: expected a key of spiffe://de.example/worker/site"},
      {head + de + fr + hex, ":4: "},
      {head + de + fr + hex + "00\n", ":4: "},
      {head + de + fr + hex.substr(2) + "\n", ":4: "},
      {head + de + fr + "zz" + hex.substr(2) + "\n", ":4: "},
      {head + de + fr + std::string(64, '0') + "\n", ":4: expected a random key"},
      {head + de + fr + hex + "\n" + hex + "\n", ":5: "},
  };
  for (const auto& [text, where] : bad) {
    Write("a.key", text);
    const auto loaded = Load();
    EXPECT_THAT(loaded, HasStatus(StatusCode::kInvalidArgument, std::string("a.key") + where));
    EXPECT_EQ(std::string(Message(loaded.status())).find(hex.substr(2, 20)), std::string::npos);
  }
  Write("a.key", head + de + fr + hex + "\n");
  EXPECT_OK(Load().status());
  Write("a.key", std::string(4096, 'x'));
  EXPECT_THAT(Load(), HasStatus(StatusCode::kInvalidArgument, "at most"));
}

TEST_F(PairwiseKeyFilesTest, OnePeerHasOneKeyAndOneKeyOnePeer) {
  const auto first = Make("a.key", de_, fr_);
  Make("b.key", de_, fr_);
  EXPECT_THAT(Load(), HasStatus(StatusCode::kInvalidArgument,
                                "b.key:2: another file has a key with " + fr_.ToString()));
  ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile(first));
  const size_t at = text.find("fr.example");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 2, "es");
  Write("b.key", text);
  EXPECT_THAT(Load(), HasStatus(StatusCode::kInvalidArgument, "b.key:4: the key with " + fr_.ToString()));
}

TEST_F(PairwiseKeyFilesTest, FilesOfOtherNamesAreNotRead) {
  Make("a.key", de_, fr_);
  Write("README", "what these are\n", 0644);
  ASSERT_OK_AND_ASSIGN(const auto keys, Load());
  EXPECT_EQ(keys.size(), 1u);
}

}  // namespace
}  // namespace concordat::policy
