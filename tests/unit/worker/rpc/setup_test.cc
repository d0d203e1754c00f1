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

TEST_F(SetupTest, TheCanaryKeyIsKeptAsTheSplitKeyIs) {
  EXPECT_EQ(*ReadCanaryKey(card_), Digest{}) << "none without canaries";
  card_.canaries = {16, card_.path / "canary.key"};
  EXPECT_OK(CheckApart(config_, card_));
  card_.canaries.key = config_.base_model / "canary.key";
  EXPECT_THAT(CheckApart(config_, card_), HasStatus(StatusCode::kInvalidArgument, "canary.key"));
  card_.canaries.key = root_ / "canary.key";
  EXPECT_THAT(ReadCanaryKey(card_), HasStatus(StatusCode::kNotFound, "canary.key"));
  const Bytes key(32, 7);
  ASSERT_OK(WriteFileAtomically(card_.canaries.key, ByteView(key), 0644));
  EXPECT_THAT(ReadCanaryKey(card_), HasStatus(StatusCode::kPermissionDenied, "chmod 600"));
  ASSERT_OK(WriteFileAtomically(card_.canaries.key, ByteView(key), 0600));
  ASSERT_OK_AND_ASSIGN(const Digest read, ReadCanaryKey(card_));
  EXPECT_EQ(read.bytes[31], 7);
}

TEST_F(SetupTest, WhoeverStartsATrainerTellsItTheSame) {
  card_.kind = policy::DatasetCard::Kind::kJsonl;
  card_.person_id_field = "who";
  card_.held_out_permille = 100;
  card_.canaries.count = 16;
  config_.device = "cpu";
  config_.threads = 3;
  Digest split, canary, model;
  split.bytes[0] = 1;
  canary.bytes[0] = 2;
  model.bytes[0] = 3;
  policy::RegionPolicy policy;
  policy.sandbox = policy::SandboxMode::kAdvisory;
  sandbox::Configure told = ConfigureTrainer(config_, policy, card_, {split, canary}, model);
  EXPECT_EQ(told.base_model, config_.base_model.string());
  EXPECT_EQ(told.base_model_sha256, model);
  EXPECT_EQ(told.dataset, card_.path.string());
  EXPECT_EQ(told.dataset_kind, 0);
  EXPECT_EQ(told.split_key, split);
  EXPECT_EQ(told.held_out_permille, 100u);
  EXPECT_EQ(told.canaries, 16u);
  EXPECT_EQ(told.canary_key, canary);
  EXPECT_EQ(told.device, "cpu");
  EXPECT_EQ(told.threads, 3u);
  EXPECT_FALSE(told.sandbox_required);
  EXPECT_EQ(told.person_field, "") << "the budget counts sites: persons are not told apart";
  EXPECT_FALSE(told.promise.has_value());
  card_.privacy.unit = PrivacyUnit::kPerson;
  policy.sandbox = policy::SandboxMode::kRequired;
  told = ConfigureTrainer(config_, policy, card_, {split, canary}, model);
  EXPECT_EQ(told.person_field, "who");
  ASSERT_TRUE(told.promise.has_value());
  EXPECT_EQ(told.promise->unit, sandbox::TrainedUnit::kPerson);
  EXPECT_EQ(told.promise->delta, card_.privacy.delta);
  EXPECT_TRUE(told.sandbox_required);
  card_.privacy.unit = PrivacyUnit::kRecord;
  told = ConfigureTrainer(config_, policy, card_, {split, canary}, model);
  ASSERT_TRUE(told.promise.has_value());
  EXPECT_EQ(told.promise->unit, sandbox::TrainedUnit::kRecord);
}

TEST_F(SetupTest, ADatasetThatIsNotThereOrEmptyOrOfAnotherKindIsRefused) {
  EXPECT_THAT(CheckDataset(card_), HasStatus(StatusCode::kInvalidArgument, "has nothing to train on"));
  ASSERT_OK(WriteFileAtomically(card_.path / "a.txt", "text"));
  EXPECT_OK(CheckDataset(card_));
  card_.kind = policy::DatasetCard::Kind::kJsonl;
  EXPECT_THAT(CheckDataset(card_), HasStatus(StatusCode::kInvalidArgument, "kind jsonl is for"));
  card_.kind = policy::DatasetCard::Kind::kText;
  card_.path = root_ / "nowhere";
  EXPECT_THAT(CheckDataset(card_), HasStatus(StatusCode::kInvalidArgument, "nowhere cannot be read"));
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
