#include "worker/rpc/round_store.h"

#include <sys/stat.h>

#include "common/files.h"
#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

AttemptId Id(uint32_t attempt) { return {crypto::Sha256(AsBytes("job")), 3, attempt}; }

RoundSeal Seal(uint32_t attempt, std::string_view state) {
  return {Id(attempt), crypto::SecretText(AsBytes(state))};
}

class RoundStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<RoundStore> Open() {
    auto store = RoundStore::Open(dir_ / "rounds", dir_ / "seal.key", random_);
    EXPECT_OK(store);
    return std::move(store).value();
  }
  std::filesystem::path File(uint32_t attempt) {
    return dir_ / "rounds" / fmt::format("{}-3-{}.sealed", Id(attempt).job.hex(), attempt);
  }
  /// What loads: attempt and text.
  std::map<uint32_t, std::string> Loaded() {
    broken_.clear();
    std::map<uint32_t, std::string> out;
    for (const RoundSeal& seal : Open()->Load(&broken_))
      out[seal.id.attempt] = std::string(AsText(seal.state.view()));
    return out;
  }

  TempDir dir_;
  OsRandom random_;
  std::vector<std::string> broken_;
};

TEST_F(RoundStoreTest, TheLastStateOfEachAttemptIsThereAfterARestart) {
  {
    const auto store = Open();
    ASSERT_OK(store->Put(Seal(0, "advertised")));
    ASSERT_OK(store->Put(Seal(1, "of another attempt")));
    ASSERT_OK(store->Put(Seal(0, "shared")));
  }
  EXPECT_EQ(Loaded(), (std::map<uint32_t, std::string>{{0, "shared"}, {1, "of another attempt"}}));
  Open()->Remove(Id(0));
  EXPECT_EQ(Loaded(), (std::map<uint32_t, std::string>{{1, "of another attempt"}}));
  EXPECT_TRUE(broken_.empty());
}

TEST_F(RoundStoreTest, NothingOfAStateIsReadableOnTheDisk) {
  ASSERT_OK(Open()->Put(Seal(0, "a very secret seed of thirty-two")));
  const Bytes file = *ReadFile(File(0));
  EXPECT_EQ(AsText(file).find("secret"), std::string_view::npos);
  struct stat info {};
  ASSERT_EQ(::stat(File(0).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat((dir_ / "seal.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(RoundStoreTest, TheSameStateSealedTwiceHasOtherBytes) {
  const auto store = Open();
  ASSERT_OK(store->Put(Seal(0, "state")));
  const Bytes first = *ReadFile(File(0));
  ASSERT_OK(store->Put(Seal(0, "state")));
  EXPECT_NE(*ReadFile(File(0)), first) << "a key must seal one message only";
}

TEST_F(RoundStoreTest, AnyChangedByteAnotherKeyOrAnotherAttemptsFileIsLeftOutAndNamed) {
  ASSERT_OK(Open()->Put(Seal(0, "state")));
  const Bytes good = *ReadFile(File(0));
  for (size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= 1;
    ASSERT_OK(WriteFileAtomically(File(0), ByteView(bad), 0600));
    EXPECT_TRUE(Loaded().empty()) << "byte " << i;
    EXPECT_EQ(broken_.size(), 1u) << "byte " << i;
  }
  ASSERT_OK(WriteFileAtomically(File(0), ByteView(good).first(20), 0600));
  EXPECT_TRUE(Loaded().empty());
  // Moved to another attempt's name.
  std::filesystem::remove(File(0));
  ASSERT_OK(WriteFileAtomically(File(1), ByteView(good), 0600));
  EXPECT_TRUE(Loaded().empty());
  std::filesystem::remove(File(1));
  ASSERT_OK(WriteFileAtomically(File(0), ByteView(good), 0600));
  EXPECT_EQ(Loaded().size(), 1u);
  std::filesystem::remove(dir_ / "seal.key");
  EXPECT_TRUE(Loaded().empty()) << "a new key opens nothing of the old one";
}

TEST_F(RoundStoreTest, AKeyThatOthersMayReadIsRefused) {
  (void)Open();
  ::chmod((dir_ / "seal.key").c_str(), 0644);
  EXPECT_THAT(RoundStore::Open(dir_ / "rounds", dir_ / "seal.key", random_).status(),
              HasStatus(StatusCode::kPermissionDenied, "chmod 600"));
  ASSERT_OK(WriteFileAtomically(dir_ / "seal.key", std::string_view("short"), 0600));
  EXPECT_THAT(RoundStore::Open(dir_ / "rounds", dir_ / "seal.key", random_).status(),
              HasStatus(StatusCode::kDataLoss, "32 bytes"));
}

}  // namespace
}  // namespace concordat::worker
