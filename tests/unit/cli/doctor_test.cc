#include <arpa/inet.h>
#include <sys/socket.h>

#include "cli/doctor_checks.h"
#include "cli/doctor_trainer.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using testing::HasStatus;
using ::testing::HasSubstr;
using ::testing::Not;

class DoctorTest : public CliWorld {
 protected:
  /// Level of each check of the worker's preflight.
  std::map<std::string, std::string> Levels() {
    std::map<std::string, std::string> levels;
    const auto report = Cli({"doctor", "--worker", At("de/worker.yaml"), "--json"}).json();
    for (const auto& check : report["checks"]) {
      levels[check["check"]] = check["level"];
      texts_[check["check"]] = check["text"].get<std::string>() + " -> " + check["next"].dump();
    }
    return levels;
  }
  void Change(const char* file, const std::string& from, const std::string& to) {
    ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile(dir_ / file));
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    ASSERT_OK(WriteFileAtomically(dir_ / file, text, 0600));
  }
  void Append(const char* file, const std::string& line) {
    ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(dir_ / file));
    ASSERT_OK(WriteFileAtomically(dir_ / file, text + line, 0600));
  }
  std::map<std::string, std::string> texts_;
};

TEST_F(DoctorTest, ADatasetThatCannotBeTrainedOnIsNoDataset) {
  std::filesystem::create_directories(dir_ / "de/data");
  EXPECT_EQ(Levels()["dataset"], "fail") << "an empty folder";
  ASSERT_OK(WriteFileAtomically(dir_ / "de/data/a.txt", ""));
  EXPECT_EQ(Levels()["dataset"], "fail") << "an empty file";
  ASSERT_OK(WriteFileAtomically(dir_ / "de/data/a.txt", "text"));
  EXPECT_EQ(Levels()["dataset"], "ok");
  Change("de/dataset-card.yaml", "kind: text", "kind: jsonl");
  EXPECT_EQ(Levels()["dataset"], "fail") << "another kind than the path has";
  EXPECT_THAT(texts_["dataset"], HasSubstr("kind jsonl is for a .jsonl file"));
}

TEST_F(DoctorTest, PairwiseKeysAreReadAsTheWorkerReadsThem) {
  EXPECT_FALSE(Levels().contains("pairwise_keys")) << "none are named";
  Append("de/worker.yaml", "\npairwise_keys: pairwise\n");
  EXPECT_EQ(Levels()["pairwise_keys"], "fail") << "no folder";
  std::filesystem::create_directories(dir_ / "de/pairwise");
  std::filesystem::permissions(dir_ / "de/pairwise", std::filesystem::perms::owner_all);
  EXPECT_EQ(Levels()["pairwise_keys"], "warn") << "no key";
  const Ran made =
      Cli({"region", "pairwise-key", At("de"), "--peer", "spiffe://fr.example/worker/site", "--json"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(Levels()["pairwise_keys"], "ok");
  EXPECT_THAT(texts_["pairwise_keys"],
              HasSubstr("fr.example/site (" + made.json()["check"].get<std::string>()));
  std::filesystem::permissions(dir_ / "de/pairwise", std::filesystem::perms::all);
  EXPECT_EQ(Levels()["pairwise_keys"], "fail");
  EXPECT_THAT(texts_["pairwise_keys"], HasSubstr("chmod 700"));
}

TEST_F(DoctorTest, AStateFolderThatCannotBeMadeIsFoundByMakingOne) {
  Change("de/worker.yaml", "state: state", "state: /proc/x");
  EXPECT_EQ(Levels()["state"], "fail");
}

TEST_F(DoctorTest, WhatWasTriedIsUndone) {
  std::filesystem::create_directories(dir_ / "de/state");
  EXPECT_FALSE(Levels().contains("state"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "de/state"));
}

TEST_F(DoctorTest, ALogThatCannotBeWrittenIsFound) {
  Append("de/worker.yaml", "log: /proc/x/worker.log\n");
  EXPECT_EQ(Levels()["log"], "fail");
  Change("de/worker.yaml", "log: /proc/x/worker.log", "log: worker");  // a folder
  EXPECT_EQ(Levels()["log"], "fail");
  Change("de/worker.yaml", "log: worker", "log: state/worker.log");
  EXPECT_EQ(Levels()["log"], "ok");
}

TEST_F(DoctorTest, ASplitKeyThatOthersMayReadIsNotReady) {
  std::filesystem::permissions(dir_ / "de/split.key", std::filesystem::perms(0644));
  EXPECT_EQ(Levels()["split_key"], "fail");
  EXPECT_THAT(texts_["split_key"], HasSubstr("chmod 600"));
}

TEST_F(DoctorTest, ACanaryKeyIsLookedForWhereTheCardNamesOne) {
  EXPECT_FALSE(Levels().contains("canary_key"));
  Append("de/dataset-card.yaml", "canaries: {key: canary.key, count: 16}\n");
  EXPECT_EQ(Levels()["canary_key"], "fail");
  EXPECT_THAT(texts_["canary_key"], HasSubstr("region canaries"));
  ASSERT_EQ(Cli({"region", "canaries", At("de"), "--count", "16"}).code, 0);
  EXPECT_EQ(Levels()["canary_key"], "ok");
  EXPECT_THAT(texts_["canary_key"], HasSubstr("16 canaries"));
  std::filesystem::permissions(dir_ / "de/canary.key", std::filesystem::perms(0640));
  EXPECT_EQ(Levels()["canary_key"], "fail");
}

TEST_F(DoctorTest, WhatTheWorkerRefusesToStartWithIsFoundBefore) {
  std::filesystem::create_directories(dir_ / "de/state");
  std::filesystem::permissions(dir_ / "de/state", std::filesystem::perms(0777));
  EXPECT_EQ(Levels()["state"], "fail");
  EXPECT_EQ(Levels()["apart"], "ok");
  Change("de/dataset-card.yaml", "path: data", "path: .");
  EXPECT_EQ(Levels()["apart"], "fail") << "the region's keys lie in the dataset's folder";
}

TEST_F(DoctorTest, AnOperatorsCertificateIsNamedAndNotRenewed) {
  Change("de/worker.yaml", "certificate: worker/cert.pem", "certificate: operator/cert.pem");
  Change("de/worker.yaml", "key: worker/key.pem", "key: operator/key.pem");
  auto levels = Levels();
  EXPECT_EQ(levels["certificate"], "fail");
  EXPECT_THAT(texts_["certificate"], HasSubstr("expected a worker's certificate"));
  EXPECT_THAT(texts_["certificate"], Not(HasSubstr("renew")));
  EXPECT_EQ(levels["coordinator"], "warn") << "not blamed for it";
}

TEST_F(DoctorTest, ACoordinatorsCertificateIsRenewedByItsOwnVerb) {
  class Later final : public Clock {
    Instant Now() const override { return SystemClock().Now() + std::chrono::days(80); }
  } later;
  surroundings_.clock = &later;
  std::filesystem::copy_file(dir_ / "charter.yaml", dir_ / "neutral/charter.yaml");
  ASSERT_EQ(Cli({"charter", "pin", At("charter.yaml"), At("neutral/coordinator.yaml")}).code, 0);
  EXPECT_THAT(Cli({"doctor", "--coordinator", At("neutral/coordinator.yaml")}, surroundings_).out,
              HasSubstr("concordat coordinator renew"));
  ASSERT_EQ(Cli({"coordinator", "renew", At("neutral")}, surroundings_).code, 0);
  EXPECT_THAT(Cli({"doctor", "--coordinator", At("neutral/coordinator.yaml")}, surroundings_).out,
              Not(HasSubstr("renew")));
}

TEST_F(DoctorTest, ATakenListenAddressIsFineOnlyForItself) {
  const FileDescriptor other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  ASSERT_EQ(::getsockname(other.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
  const std::string address = fmt::format("127.0.0.1:{}", ntohs(where.sin_port));
  Doctor foreign(SystemClock().Now()), itself(SystemClock().Now()), elsewhere(SystemClock().Now());
  foreign.CheckListen(address, [] { return Unavailable("no TLS"); });
  EXPECT_TRUE(foreign.failed("listen"));
  itself.CheckListen(address, [] { return OkStatus(); });
  EXPECT_FALSE(itself.failed("listen"));
  elsewhere.CheckListen("192.0.2.1:7443", [] { return OkStatus(); });  // TEST-NET-1: nobody's
  EXPECT_TRUE(elsewhere.failed("listen"));
}

class TrainerTrialTest : public ::testing::Test {
 protected:
  std::filesystem::path Program(const std::string& text) {
    const auto path = dir_ / "trainer";
    EXPECT_OK(WriteFileAtomically(path, "#!/bin/sh\n" + text + "\n", 0700));
    return path;
  }
  testing::TempDir dir_;
};

TEST_F(TrainerTrialTest, AnotherProgramIsNoTrainer) {
  EXPECT_THAT(TryTrainer("/bin/true", {}, Millis(60'000)).status(),
              HasStatus(StatusCode::kFailedPrecondition, "ended with code 0"));
}

TEST_F(TrainerTrialTest, WhatTheLoaderSaysIsTheReason) {
  EXPECT_THAT(TryTrainer(Program("echo 'error while loading shared libraries: libx.so' >&2; exit 127"), {},
                         Millis(60'000))
                  .status(),
              HasStatus(StatusCode::kFailedPrecondition, "libx.so"));
}

// What is to be mended is in the file that it names; anything else may be a matter of rights.
TEST_F(TrainerTrialTest, WhatTheTrainerSaysOfItsInputIsKeptApart) {
  const auto tried = [&](StatusCode code) {
    const Bytes said = sandbox::Encode(
        sandbox::FromTrainer(sandbox::Failed{static_cast<uint8_t>(code), "data.jsonl:3: not JSON"}));
    EXPECT_OK(WriteFileAtomically(dir_ / "said", ByteView(said), 0600));
    return TryTrainer(Program("cat " + (dir_ / "said").string() + " >&3; exec sleep 600"), {}, Millis(60'000))
        .status();
  };
  EXPECT_THAT(tried(StatusCode::kInvalidArgument),
              HasStatus(StatusCode::kInvalidArgument, "data.jsonl:3: not JSON"));
  EXPECT_THAT(tried(StatusCode::kNotFound), HasStatus(StatusCode::kFailedPrecondition, "data.jsonl:3"));
}

TEST_F(TrainerTrialTest, ASilentProgramIsNotWaitedForForever) {
  EXPECT_THAT(TryTrainer(Program("exec sleep 600"), {}, Millis(10)).status(),
              HasStatus(StatusCode::kDeadlineExceeded, "no answer"));
}

}  // namespace
}  // namespace concordat::cli
