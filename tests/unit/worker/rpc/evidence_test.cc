#include "worker/rpc/evidence.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "common/files.h"
#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::worker {
namespace {

using concordat::testing::TempDir;

Evidence Said(std::string_view body, uint8_t signature) {
  Evidence evidence{{crypto::Sha256(AsBytes("job")), 3, 1}, "result", ToBytes(AsBytes(body)), {}};
  evidence.signature[0] = signature;
  return evidence;
}

std::set<std::string> Names(const std::filesystem::path& folder) {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) out.insert(entry.path().filename());
  return out;
}

TEST(EvidenceTest, AMessageIsKeptAsBodyAndSignatureOfTheOwnersOnly) {
  const TempDir folder;
  ASSERT_OK(KeepEvidence(folder.path(), Said("first", 1)));
  const std::string stem =
      crypto::Sha256(AsBytes("job")).brief() + "-3-1-result-" + crypto::Sha256(AsBytes("first")).hex();
  ASSERT_EQ(Names(folder.path()), (std::set<std::string>{stem + ".body", stem + ".signature"}));
  EXPECT_EQ(ReadTextFile(folder / (stem + ".body")).value(), "first");
  const Bytes signature = ReadFile(folder / (stem + ".signature")).value();
  ASSERT_EQ(signature.size(), 64u);
  EXPECT_EQ(signature[0], 1);
  struct stat info {};
  ASSERT_EQ(::stat((folder / (stem + ".body")).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(EvidenceTest, ASecondLieAboutTheSameStepStandsBesideTheFirst) {
  const TempDir folder;
  ASSERT_OK(KeepEvidence(folder.path(), Said("first", 1)));
  ASSERT_OK(KeepEvidence(folder.path(), Said("second", 2)));
  ASSERT_OK(KeepEvidence(folder.path(), Said("first", 1)));
  EXPECT_EQ(Names(folder.path()).size(), 4u);
}

TEST(EvidenceTest, AFolderThatCannotBeWrittenIsSaid) {
  const TempDir folder;
  EXPECT_FALSE(KeepEvidence(folder / "missing", Said("first", 1)).ok());
}

}  // namespace
}  // namespace concordat::worker
