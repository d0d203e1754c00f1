#include "policy/region_init.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "policy/job_privacy.h"
#include "policy/node_config.h"
#include "privacy/crypto/x509_names.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

unsigned ModeOf(const std::filesystem::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 0777;
}

class RegionInitTest : public ::testing::Test {
 protected:
  Status Init() {
    RegionInitOptions options;
    options.jurisdiction = "it.example";
    return InitRegion(folder_, options, Now(), random_);
  }
  std::string Read(const char* name) { return ReadTextFile(folder_ / name).value(); }
  CountingRandom random_;
  testing::TempDir dir_;
  std::filesystem::path folder_ = dir_ / "region";
};

TEST_F(RegionInitTest, MakesACaThatItsLeavesChainTo) {
  ASSERT_OK(Init());
  World world;
  world.charter.members.push_back({"it.example", "law", Read("ca/root.pem")});
  ASSERT_OK_AND_ASSIGN(const auto worker, CheckPeer(world.charter, Read("worker/cert.pem"), Now()));
  EXPECT_EQ(worker.id, Id("spiffe://it.example/worker/site"));
  ASSERT_OK_AND_ASSIGN(const auto person,
                       CheckPeer(world.charter, Read("operator/cert.pem"), Now() + std::chrono::days(89)));
  EXPECT_EQ(person.id, Id("spiffe://it.example/operator/admin"));
  EXPECT_NE(worker.key_hash, person.key_hash);
  EXPECT_FALSE(CheckPeer(world.charter, Read("worker/cert.pem"), Now() + std::chrono::days(91)).ok());
  ASSERT_OK_AND_ASSIGN(const auto key, crypto::SigningKey::FromPem(AsBytes(Read("worker/key.pem"))));
  EXPECT_EQ(key.Public().KeyHash(), worker.key_hash);
}

TEST_F(RegionInitTest, KeysAndFoldersAreTheOwnersOnly) {
  ASSERT_OK(Init());
  for (const char* name : {"ca/root.key", "worker/key.pem", "operator/key.pem", "split.key"}) {
    EXPECT_EQ(ModeOf(folder_ / name), 0600u) << name;
  }
  for (const char* name : {".", "ca", "worker", "operator"}) EXPECT_EQ(ModeOf(folder_ / name), 0700u) << name;
  EXPECT_EQ(Read("split.key").size(), 32u);
}

TEST_F(RegionInitTest, TemplatesAreReadAndBeginCautiously) {
  ASSERT_OK(Init());
  ASSERT_OK_AND_ASSIGN(const RegionPolicy policy, LoadRegionPolicy((folder_ / "policy.yaml").string()));
  EXPECT_EQ(policy.approval, ApprovalMode::kManual);
  EXPECT_FALSE(policy.artefacts.evaluation.release);
  EXPECT_TRUE(policy.submitters.at(0).Matches(Id("spiffe://it.example/operator/admin")));
  ASSERT_OK_AND_ASSIGN(const DatasetCard card, LoadDatasetCard((folder_ / "dataset-card.yaml").string()));
  EXPECT_EQ(card.residency, std::vector<std::string>{"it.example"});
  EXPECT_EQ(card.split_key, folder_ / "split.key");
  const std::string worker_file = (folder_ / "worker.yaml").string();
  EXPECT_THAT(LoadWorkerConfig(worker_file), HasStatus(StatusCode::kInvalidArgument, "not pinned yet"));
  const Digest hash = crypto::Sha256(AsBytes("charter"));
  ASSERT_OK(WriteFileAtomically(worker_file, PinCharterHash(Read("worker.yaml"), hash).value()));
  ASSERT_OK_AND_ASSIGN(const WorkerConfig worker, LoadWorkerConfig(worker_file));
  for (const auto& path : {worker.certificate, worker.key, worker.policy, worker.dataset_card}) {
    EXPECT_TRUE(std::filesystem::exists(path)) << path;
  }
  EXPECT_OK(ParseOperatorConfig(PinCharterHash(Read("operator.yaml"), hash).value(), "o", folder_));
}

TEST_F(RegionInitTest, OnceAllowedTheTemplatesCanEvaluateWithinTheirOwnBudget) {
  ASSERT_OK(Init());
  const std::string allowed = With(Read("policy.yaml"), "release: deny", "release: allow");
  ASSERT_OK_AND_ASSIGN(const RegionPolicy policy, ParseRegionPolicy(allowed, "policy.yaml"));
  ASSERT_OK_AND_ASSIGN(const DatasetCard card, LoadDatasetCard((folder_ / "dataset-card.yaml").string()));
  const RegionPolicy::Artefacts::Evaluation& evaluation = policy.artefacts.evaluation;
  // Every attempt of the example job, and all requests of base and newest adapter that the policy answers.
  const JobSpec job = ExampleJob();
  std::vector<LedgerCharge> charges;
  for (uint32_t i = 0; i < job.rounds * job.cohort.attempts_per_round; ++i) {
    ASSERT_OK_AND_ASSIGN(charges.emplace_back(), RoundCharge(job, AttemptId{Digest{}, i, 0}, 3));
  }
  for (uint32_t i = 0; i < evaluation.max_requests; ++i) {
    LedgerCharge& charge = charges.emplace_back();
    charge.kind = ChargeKind::kEvaluation;
    ASSERT_OK_AND_ASSIGN(charge.price, EvaluationCurve(evaluation, 4));
  }
  EXPECT_LT(EpsilonSpent(card.budget(), charges), card.budget().epsilon);
}

TEST_F(RegionInitTest, NothingIsOverwritten) {
  ASSERT_OK(Init());
  const std::string key = Read("ca/root.key");
  EXPECT_THAT(Init(), HasStatus(StatusCode::kAlreadyExists, "nothing is overwritten"));
  EXPECT_EQ(Read("ca/root.key"), key);
  folder_ = dir_ / "file";
  ASSERT_OK(WriteFileAtomically(folder_, "x"));
  EXPECT_THAT(Init(), HasStatus(StatusCode::kAlreadyExists, "nothing is overwritten"));
}

TEST_F(RegionInitTest, ABadNameMakesNoFolder) {
  RegionInitOptions options;
  options.jurisdiction = "Not A Name";
  EXPECT_THAT(InitRegion(folder_, options, Now(), random_),
              HasStatus(StatusCode::kInvalidArgument, "jurisdiction"));
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(RegionInitTest, RenewalKeepsKeyAndIdentity) {
  ASSERT_OK(Init());
  const Instant later = Now() + std::chrono::days(80);
  ASSERT_OK_AND_ASSIGN(const auto before, crypto::Certificate::FromPem(Read("worker/cert.pem")));
  ASSERT_OK(
      RenewLeaf(folder_ / "ca", folder_ / "worker/key.pem", folder_ / "worker/cert.pem", later, random_));
  ASSERT_OK_AND_ASSIGN(const auto after, crypto::Certificate::FromPem(Read("worker/cert.pem")));
  EXPECT_EQ(after.key_hash(), before.key_hash());
  EXPECT_EQ(after.spiffe_id().value(), before.spiffe_id().value());
  EXPECT_GT(after.not_after(), before.not_after());
  EXPECT_THAT(
      RenewLeaf(folder_ / "ca", folder_ / "operator/key.pem", folder_ / "worker/cert.pem", later, random_),
      HasStatus(StatusCode::kInvalidArgument, "is not the key of"));
}

TEST(CoordinatorInitTest, MakesACoordinatorWithItsNames) {
  CountingRandom random;
  const testing::TempDir dir;
  CoordinatorInitOptions options;
  options.jurisdiction = "ch.example";
  EXPECT_THAT(InitCoordinator(dir / "c", options, Now(), random),
              HasStatus(StatusCode::kInvalidArgument, "at least one"));
  options.dns_names = {"localhost"};
  options.ip_addresses = {"127.0.0.1", "::1"};
  options.listen = "[::]:7000";
  ASSERT_OK(InitCoordinator(dir / "c", options, Now(), random));
  const auto cert = dir / "c/coordinator/cert.pem";
  ASSERT_OK_AND_ASSIGN(const auto leaf, crypto::Certificate::FromPem(ReadTextFile(cert).value()));
  EXPECT_EQ(leaf.spiffe_id().value(), Id("spiffe://ch.example/coordinator/main"));
  EXPECT_EQ(ModeOf(dir / "c/coordinator/key.pem"), 0600u);
  ASSERT_OK_AND_ASSIGN(
      const std::string text,
      PinCharterHash(ReadTextFile(dir / "c/coordinator.yaml").value(), crypto::Sha256(AsBytes("x"))));
  ASSERT_OK_AND_ASSIGN(const CoordinatorConfig config, ParseCoordinatorConfig(text, "c", dir / "c"));
  EXPECT_EQ(config.listen, "[::]:7000");
  ASSERT_OK(
      RenewLeaf(dir / "c/ca", dir / "c/coordinator/key.pem", cert, Now() + std::chrono::days(1), random));
  ASSERT_OK_AND_ASSIGN(const auto renewed, crypto::Certificate::FromPem(ReadTextFile(cert).value()));
  const auto names = crypto::AlternativeNamesOf(renewed);
  EXPECT_EQ(names.dns_names, options.dns_names);
  EXPECT_EQ(names.ip_addresses, options.ip_addresses);
}

}  // namespace
}  // namespace concordat::policy
