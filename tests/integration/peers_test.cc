#include <gtest/gtest.h>

#include "common/clock.h"
#include "policy/region_init.h"
#include "tests/integration/false_peer.h"
#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// Peers that misbehave, against a real coordinator and three real workers. The round goes on without them.
namespace concordat {
namespace {

using concordat::testing::Await;
using concordat::testing::FalsePeer;
using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::Misdeed;
using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kFalse = "it.example";

class PeersTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tls::RequireTls13(); }

  void StartThree() {
    federation_.StartCoordinator();
    for (const char* region : {"de.example", "es.example", "fr.example"}) federation_.StartWorker(region);
    for (const char* region : {"de.example", "es.example", "fr.example"}) federation_.AwaitConnected(region);
  }

  /// One round with a peer of that kind; gives its summary.
  json RoundWith(Misdeed misdeed) {
    FalsePeer::Options options;
    options.misdeed = misdeed;
    peer_ = std::make_unique<FalsePeer>(federation_, kFalse, options);
    EXPECT_TRUE(
        Await([&] { return federation_.Concordat({"workers"}).out.find(kFalse) != std::string::npos; }));
    JobOptions job;
    job.rounds = 1;
    job.seed = ++seed_;
    job.input_deadline = "4s";
    job.step_deadline = "4s";
    job.noise = false;
    auto watch = federation_.WatchJob(federation_.Submit(federation_.WriteJob(job)));
    EXPECT_EQ(watch.End(), 0) << watch.last().dump(2);
    return watch.last().at("rounds").at(0);
  }

  static FederationOptions Four() {
    FederationOptions options;
    options.jurisdictions = {"de.example", "es.example", "fr.example", kFalse};
    options.trainer = CONCORDAT_PLANTED_TRAINER_PATH;
    return options;
  }

  Federation federation_{Four()};
  std::unique_ptr<FalsePeer> peer_;
  uint64_t seed_ = 100;
};

TEST_F(PeersTest, ARoundGoesOnWithoutAPeerThatBreaksTheRulesOfUploads) {
  StartThree();
  const std::pair<Misdeed, std::string> cases[] = {{Misdeed::kWrongLength, "expected an upload of"},
                                                   {Misdeed::kWrongDigest, "is not what its hash says"},
                                                   {Misdeed::kWrongRound, "is expected now"}};
  for (const auto& [misdeed, words] : cases) {
    SCOPED_TRACE(words);
    const json round = RoundWith(misdeed);
    EXPECT_EQ(round.at("survivors").size(), 3u);
    EXPECT_THAT(round.at("missing").dump(), HasSubstr(kFalse));
    EXPECT_THAT(peer_->refusals(), Contains(HasSubstr(words)));
    peer_.reset();
  }
  federation_.StopAll();
}

TEST_F(PeersTest, ARoundGoesOnWithoutAPeerThatNeverAnswers) {
  StartThree();
  for (const Misdeed misdeed : {Misdeed::kNoAdvert, Misdeed::kNoUpload, Misdeed::kFalseHeader}) {
    SCOPED_TRACE(static_cast<int>(misdeed));
    const json round = RoundWith(misdeed);
    EXPECT_EQ(round.at("survivors").size(), 3u);
    EXPECT_THAT(round.at("missing").dump(), HasSubstr(kFalse));
    peer_.reset();
  }
  federation_.StopAll();
}

TEST_F(PeersTest, ASecondHeaderChangesNothing) {
  StartThree();
  const json round = RoundWith(Misdeed::kHeaderTwice);
  EXPECT_EQ(round.at("survivors").size() + round.at("missing").size(), 4u);
  EXPECT_GE(round.at("survivors").size(), 3u);
  const std::string log = ReadTextFile(federation_.coordinator_log()).value_or("");
  EXPECT_THAT(log, HasSubstr("it.example/site"));
  peer_.reset();
  federation_.StopAll();
}

TEST_F(PeersTest, APeerByTheBookIsPartOfTheSum) {
  StartThree();
  EXPECT_EQ(RoundWith(Misdeed::kNone).at("survivors").size(), 4u);
  EXPECT_THAT(peer_->refusals(), IsEmpty());
  peer_.reset();
  federation_.StopAll();
}

TEST_F(PeersTest, StrangersAreTurnedAwayAndTheCoordinatorGoesOn) {
  federation_.StartCoordinator();
  FalsePeer::Options options;
  options.protocol = kProtocolVersion + 1;
  const grpc::Status version = FalsePeer(federation_, kFalse, options).Wait();
  EXPECT_EQ(version.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << version.error_message();
  EXPECT_THAT(version.error_message(), HasSubstr("protocol"));
  EXPECT_TRUE(Federation::AwaitText(federation_.coordinator_log(), "it.example/site: session ended"));

  options = {};
  options.role = "operator";
  const grpc::Status role = FalsePeer(federation_, kFalse, options).Wait();
  EXPECT_EQ(role.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(Federation::AwaitText(federation_.coordinator_log(), "a session was refused"));

  // A jurisdiction with a CA of its own that no charter names.
  OsRandom random;
  policy::RegionInitOptions stranger;
  stranger.jurisdiction = "xx.example";
  ASSERT_OK(policy::InitRegion(federation_.root() / "stranger", stranger, SystemClock().Now(), random));
  // One that claims to be a member, under a root of its own.
  stranger.jurisdiction = "de.example";
  ASSERT_OK(policy::InitRegion(federation_.root() / "forger", stranger, SystemClock().Now(), random));
  for (const char* folder : {"stranger", "forger"}) {
    options = {};
    options.identity = federation_.root() / folder / "worker";
    EXPECT_FALSE(FalsePeer(federation_, kFalse, options).Wait().ok()) << folder;
  }
  EXPECT_TRUE(federation_.coordinator().running());
  EXPECT_EQ(federation_.Concordat({"workers"}).code, 0);
  federation_.StopAll();
}

}  // namespace
}  // namespace concordat
