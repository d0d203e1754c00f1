#include "policy/node_config.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

TEST(NodeConfigTest, PathsAreTakenFromTheFilesFolderAndDefaultsFromTheState) {
  ASSERT_OK_AND_ASSIGN(const WorkerConfig c, ParseWorkerConfig(ReadExample("worker.yaml"), "w", "/region"));
  EXPECT_EQ(c.key, "/region/worker/key.pem");
  EXPECT_EQ(c.ledger, "/region/state/ledger.jsonl");
  EXPECT_EQ(c.socket, "/region/state/region.sock");
  EXPECT_EQ(c.scratch, "/region/state/scratch");
  EXPECT_EQ(c.seal_key, "/region/state/seal.key");
  EXPECT_EQ(c.anchor, "/region/anchor");
  EXPECT_TRUE(c.trainer.empty());
  EXPECT_TRUE(c.log.empty());
  ASSERT_OK_AND_ASSIGN(
      const WorkerConfig absolute,
      ParseWorkerConfig(With(ReadExample("worker.yaml"), "state: state", "state: /var/lib/c\nledger: ../l"),
                        "w", "/region"));
  EXPECT_EQ(absolute.state, "/var/lib/c");
  EXPECT_EQ(absolute.ledger, "/l");
}

TEST(NodeConfigTest, EveryCommentedKeyOfTheWorkerExampleIsOneItReads) {
  std::string text = ReadExample("worker.yaml");
  for (const char* key : {"coordinator_address", "proxy", "scratch", "anchor", "seal_key", "pairwise_keys",
                          "ledger", "receipts", "log", "trainer", "socket"}) {
    text = With(text, fmt::format("# {}: ", key), fmt::format("{}: ", key));
  }
  ASSERT_OK_AND_ASSIGN(const WorkerConfig c, ParseWorkerConfig(text, "w", "/region"));
  EXPECT_EQ(c.coordinator_address, "coordinator.neutral.example:7443");
  EXPECT_EQ(c.log, "/region/state/worker.log");
  EXPECT_EQ(c.pairwise_keys, "/region/pairwise");
}

TEST(NodeConfigTest, AnUnpinnedCharterSaysHowToPin) {
  ASSERT_OK_AND_ASSIGN(const std::string text, PinCharterHash(ReadExample("worker.yaml"), Digest{}));
  EXPECT_THAT(ParseWorkerConfig(text, "w", "/r"), HasStatus(StatusCode::kInvalidArgument, "not pinned yet"));
}

TEST(NodeConfigTest, PinningChangesTheOneLine) {
  const Digest hash = crypto::Sha256(AsBytes("other"));
  const std::string before = ReadExample("operator.yaml");
  ASSERT_OK_AND_ASSIGN(const std::string after, PinCharterHash(before, hash));
  ASSERT_OK_AND_ASSIGN(const OperatorConfig c, ParseOperatorConfig(after, "o", "/r"));
  EXPECT_EQ(c.charter.hash, hash);
  EXPECT_EQ(after.size(), before.size());
  EXPECT_THAT(PinCharterHash("key: 1\nother:\n  hash: 00\n", hash),
              HasStatus(StatusCode::kInvalidArgument, "charter:"));
  EXPECT_THAT(PinCharterHash("", hash), HasStatus(StatusCode::kInvalidArgument, "charter:"));
  EXPECT_EQ(PinCharterHash("charter:\n  hash: 00", hash).value(), "charter:\n  hash: " + hash.hex() + "\n");
}

TEST(NodeConfigTest, DeviceIsCpuOrANumberedGpu) {
  const auto with = [](const char* device) {
    return ParseWorkerConfig(
        With(ReadExample("worker.yaml"), "device: cpu", fmt::format("device: \"{}\"", device)), "w", "/r");
  };
  EXPECT_EQ(with("cuda:3")->device, "cuda:3");
  for (const char* wrong : {"cuda", "cuda:", "cuda:64", "cuda:-1", "cuda:1x", "gpu", "CPU", "c"}) {
    EXPECT_THAT(with(wrong), HasStatus(StatusCode::kInvalidArgument, "expected cpu or cuda:N")) << wrong;
  }
}

TEST(NodeConfigTest, ASocketPathThatNoKernelTakesIsRefused) {
  EXPECT_THAT(ParseWorkerConfig(ReadExample("worker.yaml"), "w", "/" + std::string(100, 'x')),
              HasStatus(StatusCode::kInvalidArgument, "at most 107 bytes"));
}

TEST(HostPortTest, ReadsNamesAndBothKindsOfAddresses) {
  EXPECT_EQ(ParseHostPort("a.example:7443")->host, "a.example");
  EXPECT_EQ(ParseHostPort("a.example:7443")->port, 7443);
  EXPECT_EQ(ParseHostPort("[::1]:80")->host, "::1");
  for (const char* wrong :
       {"", ":1", "a", "a:", "a:0", "a:65536", "a:1x", "::1:80", "a b:1", "a/b:1", "a:-1", "[]:1"}) {
    EXPECT_EQ(ParseHostPort(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(DatasetCardTest, AnUnlimitedBudgetIsSaidInAWord) {
  const auto with = [](const char* epsilon) {
    return ParseDatasetCard(
        With(ReadExample("dataset-card.yaml"), "epsilon: 1000000 ", fmt::format("epsilon: {} ", epsilon)),
        "card", "/d");
  };
  EXPECT_TRUE(std::isinf(with("unlimited")->privacy.epsilon));
  EXPECT_EQ(with("1e18")->budget().epsilon, 1e18);
  for (const char* wrong : {"0", "-1", ".inf", "inf", "infinity", "nan", "2e18", "lots"}) {
    EXPECT_THAT(with(wrong), HasStatus(StatusCode::kInvalidArgument, "the word unlimited")) << wrong;
  }
}

TEST(DatasetCardTest, ABudgetForPersonsNeedsTheirField) {
  const std::string person = With(ReadExample("dataset-card.yaml"), "unit: site ", "unit: person ");
  EXPECT_THAT(ParseDatasetCard(person, "card", "/d"),
              HasStatus(StatusCode::kInvalidArgument, "person_id_field"));
  EXPECT_OK(ParseDatasetCard(With(person, "# person_id_field", "person_id_field"), "card", "/d"));
}

TEST(DatasetCardTest, CanariesAreAKeyAndACountWithinBounds) {
  const std::string text = ReadExample("dataset-card.yaml");
  const auto without = ParseDatasetCard(text, "card", "/d");
  ASSERT_OK(without);
  EXPECT_EQ(without->canaries.count, 0u);
  EXPECT_TRUE(without->canaries.key.empty());
  const auto with = [&](std::string_view lines) {
    return ParseDatasetCard(text + "canaries: " + std::string(lines) + "\n", "card", "/d");
  };
  const auto card = with("{key: canary.key, count: 256}");
  ASSERT_OK(card);
  EXPECT_EQ(card->canaries.count, 256u);
  EXPECT_EQ(card->canaries.key, "/d/canary.key");
  EXPECT_THAT(with("{key: k, count: 7}"), HasStatus(StatusCode::kInvalidArgument, "count"));
  EXPECT_THAT(with("{key: k, count: 10001}"), HasStatus(StatusCode::kInvalidArgument, "count"));
  EXPECT_THAT(with("{count: 8}"), HasStatus(StatusCode::kInvalidArgument, "key"));
  EXPECT_THAT(with("{key: k}"), HasStatus(StatusCode::kInvalidArgument, "count"));
  EXPECT_THAT(with("{key: k, count: 8, seed: 7}"), HasStatus(StatusCode::kInvalidArgument, "seed"));
}

TEST(RegionPolicyFileTest, RangesThatContradictThemselvesAreRefused) {
  const std::string text = ReadExample("region-policy.yaml");
  EXPECT_THAT(ParseRegionPolicy(With(text, "input: {min: 10s, max: 24h}", "input: {min: 10s, max: 9s}"), "p"),
              HasStatus(StatusCode::kInvalidArgument, "deadlines.input.max: expected at least min"));
  EXPECT_THAT(ParseRegionPolicy(With(text, "min_survivors: 3", "min_survivors: 4"), "p"),
              HasStatus(StatusCode::kInvalidArgument, "at most min_sites = 3"));
  EXPECT_THAT(ParseRegionPolicy(With(text, "noise: [local]", "noise: [local, local]"), "p"),
              HasStatus(StatusCode::kInvalidArgument, "listed twice"));
  EXPECT_THAT(ParseRegionPolicy(With(text, "methods: [fedit, ffa, core]", "methods: [flora]"), "p"),
              HasStatus(StatusCode::kInvalidArgument, "expected one of: fedit, ffa, core"));
  ASSERT_OK_AND_ASSIGN(const RegionPolicy core,
                       ParseRegionPolicy(With(text, "methods: [fedit, ffa, core]", "methods: [core]"), "p"));
  EXPECT_EQ(core.adapters.methods, std::vector{LoraMethod::kCore});
}

TEST(RegionPolicyFileTest, DeniedEvaluationsNeedNoFigures) {
  std::string text = With(ReadExample("region-policy.yaml"), "release: allow", "release: deny");
  for (const char* line : {"    bound_bits_per_byte: 4   # the mean is clipped to it\n",
                           "    max_requests: 10         # for one job\n"}) {
    text = With(text, line, "");
  }
  EXPECT_OK(ParseRegionPolicy(text, "p"));
}

}  // namespace
}  // namespace concordat::policy
