#include "worker/rpc/setup.h"

#include <gtest/gtest.h>

#include "common/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/sandbox/lockdown.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

class SetupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.state = root_ / "state";
    config_.scratch = root_ / "state" / "scratch";
    config_.key = root_ / "key.pem";
    config_.policy = root_ / "policy.yaml";
    config_.seal_key = root_ / "state" / "seal.key";
    config_.anchor = root_ / "anchor";
    config_.ledger = root_ / "state" / "ledger.jsonl";
    config_.receipts = root_ / "state" / "receipts.jsonl";
    config_.socket = root_ / "state" / "region.sock";
    config_.base_model = root_ / "model";
    card_.path = root_ / "data";
    card_.split_key = root_ / "split.key";
    for (const auto& folder : {config_.scratch, config_.base_model, card_.path})
      std::filesystem::create_directories(folder);
  }
  TempDir root_;
  policy::WorkerConfig config_;
  policy::DatasetCard card_;
};

TEST_F(SetupTest, FoldersOfTheirOwnAreApart) { EXPECT_OK(CheckApart(config_, card_)); }

TEST_F(SetupTest, NothingThatIsKeptLiesInTheBaseModelsFolder) {
  config_.seal_key = config_.base_model / "deep" / "seal.key";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "base_model"));
  config_.seal_key = root_ / "state" / "seal.key";
  config_.base_model = root_.path();
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "lies in it"));
  config_.base_model = config_.key;  // a file that is the key itself
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "key.pem"));
}

TEST_F(SetupTest, PairwiseKeysLieWhereTheTrainerDoesNotRead) {
  config_.pairwise_keys = root_ / "pairwise";
  EXPECT_OK(CheckApart(config_, card_));
  config_.pairwise_keys = card_.path / "pairwise";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "dataset"));
  config_.pairwise_keys = config_.base_model / "pairwise";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "base_model"));
  config_.pairwise_keys = config_.scratch / "pairwise";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "scratch"));
}

TEST_F(SetupTest, ALinkIsFollowed) {
  std::filesystem::create_directory_symlink(root_.path(), root_ / "model" / "link");
  config_.base_model = root_ / "model" / "link";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "base_model"));
}

TEST_F(SetupTest, TheSplitKeyMayLieBesideTheDataButNotWithTheModel) {
  card_.split_key = card_.path / "split.key";
  EXPECT_OK(CheckApart(config_, card_));
  card_.split_key = config_.base_model / "split.key";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "split.key"));
}

TEST_F(SetupTest, NothingThatIsKeptLiesAmongTheLibraries) {
  config_.key = "/usr/lib/concordat/key.pem";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "libraries"));
}

TEST_F(SetupTest, TheScratchFolderHoldsNeitherModelNorDataNorLog) {
  config_.base_model = config_.scratch / "model";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "the base model"));
  config_.base_model = root_ / "model";
  config_.log = config_.scratch / "worker.log";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "worker.log"));
  config_.log.clear();
  card_.path = config_.scratch / "data";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "the dataset"));
}

TEST_F(SetupTest, ASplitKeyThatOthersMayReadIsRefused) {
  const Bytes key(32, 7);
  ASSERT_OK(WriteFileAtomically(card_.split_key, ByteView(key), 0644));
  EXPECT_THAT(ReadSplitKey(card_.split_key), HasStatus(StatusCode::kPermissionDenied, "chmod 600"));
  ASSERT_OK(WriteFileAtomically(card_.split_key, ByteView(key), 0600));
  EXPECT_OK(ReadSplitKey(card_.split_key).status());
  ASSERT_OK(WriteFileAtomically(card_.split_key, ByteView(key).first(31), 0600));
  EXPECT_THAT(ReadSplitKey(card_.split_key), HasStatus(StatusCode::kInvalidArgument, "split.key"));
}

}  // namespace
}  // namespace concordat::worker
