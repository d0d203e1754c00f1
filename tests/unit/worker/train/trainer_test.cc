#include "worker/train/trainer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "aggregation/initial_adapter.h"
#include "privacy/crypto/hash.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::train {
namespace {

using concordat::testing::FakeClock;
using concordat::testing::HasStatus;
using concordat::testing::TempDir;
using sandbox::Channel;

constexpr ModelShape kSmolLm2{30, 576, 1536, 9, 3, 64};

std::filesystem::path RealModel() {
  const auto path = concordat::testing::CacheFolder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  EXPECT_TRUE(std::filesystem::exists(path)) << path << " is missing: run scripts/setup";
  return path;
}

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream out(dir_ / "data.jsonl");
    for (int i = 0; i < 40; ++i) {
      out << R"({"text": "Die Katze Nummer )" << i
          << R"( sitzt auf der warmen Fensterbank und schläft den ganzen Tag."})"
          << "\n";
    }
    configure_.base_model = RealModel().string();
    configure_.base_model_sha256 = *crypto::Sha256File(configure_.base_model);
    configure_.dataset = (dir_ / "data.jsonl").string();
    configure_.split_key = crypto::Sha256(AsBytes("split"));
    configure_.held_out_permille = 250;
    configure_.device = "cpu";
    configure_.threads = 2;
    configure_.dtype = 1;
    prepare_ = {kSmolLm2, {4, 8, {LoraTarget::kQ, LoraTarget::kDown}, LoraMethod::kFfa}, 64};
    task_.seed = 7;
    task_.local_steps = 3;
    task_.batch_sequences = 2;
    task_.learning_rate = 3e-3;
    task_.beta2 = 0.95;
    task_.gradient_clip = 1;
    layout_ = *AdapterLayout::Make(kSmolLm2, prepare_.adapter);
    adapter_ = *InitialAdapter(*layout_, crypto::Sha256(AsBytes("seed")));
  }

  TempDir dir_;
  FakeClock clock_;
  OsRandom random_;
  sandbox::Configure configure_;
  sandbox::Prepare prepare_;
  sandbox::Train task_;
  std::optional<AdapterLayout> layout_;
  std::vector<float> adapter_;
  Trainer::OnProgress quiet_ = [](const sandbox::TrainerProgress&) {};
};

TEST_F(TrainerTest, ARoundLowersTheLossAndGivesTheSameDeltaTwice) {
  Trainer trainer(clock_, random_);
  ASSERT_OK_AND_ASSIGN(const sandbox::Ready ready, trainer.Open(configure_));
  EXPECT_EQ(ready.train_documents + ready.held_out_documents, 40u);
  EXPECT_GT(ready.held_out_documents, 0u);
  ASSERT_OK(trainer.Prepare(prepare_));
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated base, trainer.Evaluate({}, {}, quiet_));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round first, trainer.TrainRound(task_, adapter_, quiet_));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round second, trainer.TrainRound(task_, adapter_, quiet_));
  EXPECT_EQ(first.delta, second.delta) << "an attempt that is tried again must find the same delta";
  EXPECT_EQ(first.delta.size(), layout_->delta_elements());
  EXPECT_EQ(first.summary.steps, 3u);

  task_.round = 1;
  ASSERT_OK_AND_ASSIGN(const Trainer::Round other, trainer.TrainRound(task_, adapter_, quiet_));
  EXPECT_NE(first.delta, other.delta) << "another round reads other sequences";

  std::vector<float> moved = adapter_;
  for (const AdapterTensor& t : layout_->tensors()) {
    for (uint64_t k = 0; t.trained && k < t.elements(); ++k)
      moved[t.offset + k] += first.delta[t.delta_offset + k];
  }
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated after, trainer.Evaluate({true, 0}, moved, quiet_));
  EXPECT_LT(after.bits_per_byte, base.bits_per_byte);
  EXPECT_EQ(after.bytes, base.bytes);
}

TEST_F(TrainerTest, RefusesAModelWithAnotherHash) {
  configure_.base_model_sha256 = crypto::Sha256(AsBytes("another"));
  Trainer trainer(clock_, random_);
  EXPECT_THAT(trainer.Open(configure_),
              HasStatus(StatusCode::kPermissionDenied, "expected a base model with SHA-256"));
}

TEST_F(TrainerTest, RefusesAJobForAnotherShape) {
  Trainer trainer(clock_, random_);
  ASSERT_OK(trainer.Open(configure_));
  prepare_.shape.layers = 29;
  EXPECT_THAT(trainer.Prepare(prepare_), HasStatus(StatusCode::kInvalidArgument, "another model shape"));
}

TEST_F(TrainerTest, RefusesAnEmptyDatasetAndOneThatIsNotUtf8WithoutQuotingIt) {
  Trainer trainer(clock_, random_);
  std::ofstream(dir_ / "data.jsonl", std::ios::trunc) << "";
  EXPECT_THAT(trainer.Open(configure_), HasStatus(StatusCode::kInvalidArgument, "data.jsonl"));
  std::ofstream(dir_ / "data.jsonl", std::ios::trunc) << "{\"text\": \"geheim\xff\"}\n";
  const auto refused = trainer.Open(configure_);
  EXPECT_THAT(refused, HasStatus(StatusCode::kInvalidArgument, "data.jsonl:1"));
  EXPECT_EQ(Message(refused.status()).find("geheim"), std::string_view::npos);
}

TEST_F(TrainerTest, CommandsInTheWrongOrderAreRefused) {
  Trainer trainer(clock_, random_);
  EXPECT_THAT(trainer.Prepare(prepare_), HasStatus(StatusCode::kFailedPrecondition, "before configure"));
  EXPECT_THAT(trainer.TrainRound(task_, adapter_, quiet_),
              HasStatus(StatusCode::kFailedPrecondition, "before prepare"));
}

TEST(BitsPerByteTest, IsTheRatioOfSumsWithItsStandardError) {
  const std::vector<double> bits = {10, 30};
  const std::vector<uint64_t> bytes = {10, 20};
  const BitsPerByte estimate = EstimateBitsPerByte(bits, bytes);
  EXPECT_DOUBLE_EQ(estimate.value, 40.0 / 30.0);
  // residuals 10 − 40/3 = −10/3 and 30 − 80/3 = 10/3; SE² = 2/1 · 2·(100/9) / 900
  EXPECT_NEAR(estimate.standard_error, std::sqrt(2 * 2 * 100.0 / 9.0) / 30.0, 1e-12);
  EXPECT_EQ(EstimateBitsPerByte(std::vector<double>{5}, std::vector<uint64_t>{2}).standard_error, 0);
}

TEST(ClippedSumsTest, NoUnitCountsForMoreThanItsBounds) {
  const sandbox::UnitBounds bounds{sandbox::UnitPrivacy::Unit::kRecord, 100, 4, 16};
  const auto sums = [&](double bits, uint64_t bytes) {
    const sandbox::UnitSums s = ClippedSums(bits, bytes, bounds);
    return std::pair(s.bits, s.bytes);
  };
  EXPECT_EQ(sums(75, 50), std::pair(int64_t{75 * 16}, int64_t{50}));
  EXPECT_EQ(sums(300, 200), std::pair(int64_t{150 * 16}, int64_t{100})) << "in proportion";
  EXPECT_EQ(sums(1e30, 200), std::pair(int64_t{4 * 100 * 16}, int64_t{100}));
  EXPECT_EQ(sums(1e30, 50), std::pair(int64_t{4 * 50 * 16}, int64_t{50}));
  EXPECT_EQ(sums(std::nan(""), 50), std::pair(int64_t{4 * 50 * 16}, int64_t{50}));
  EXPECT_EQ(sums(HUGE_VAL, 1000), std::pair(int64_t{4 * 100 * 16}, int64_t{100}));
  EXPECT_EQ(sums(-5, 10), std::pair(int64_t{0}, int64_t{10}));
  EXPECT_EQ(sums(0, 0), std::pair(int64_t{0}, int64_t{0}));
}

/// concordat-trainer itself, as its worker starts it.
class TrainerProcessTest : public TrainerTest {
 protected:
  void Start() {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    child_ = ::fork();
    if (child_ == 0) {
      if (pair[1] == 3) {
        ::fcntl(3, F_SETFD, 0);
      } else {
        ::dup2(pair[1], 3);
      }
      ::close_range(4, ~0u, 0);
      ::execl(CONCORDAT_TRAINER_PATH, "concordat-trainer", nullptr);
      ::_exit(127);
    }
    ::close(pair[1]);
    channel_ = std::make_unique<Channel>(FileDescriptor(pair[0]));
  }
  void TearDown() override {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
  }
  void Tell(const sandbox::ToTrainer& message, int fd = -1) {
    ASSERT_OK(channel_->Send(sandbox::Encode(message), fd));
  }
  /// The next message that is not progress.
  StatusOr<sandbox::Parcel<sandbox::FromTrainer>> Hear() {
    for (;;) {
      ASSIGN_OR_RETURN(auto parcel, channel_->Receive(600'000));
      ASSIGN_OR_RETURN(sandbox::FromTrainer message, sandbox::DecodeFromTrainer(parcel.first));
      if (!std::holds_alternative<sandbox::TrainerProgress>(message)) {
        return sandbox::Parcel<sandbox::FromTrainer>{std::move(message), std::move(parcel.second)};
      }
    }
  }
  pid_t child_ = -1;
  std::unique_ptr<Channel> channel_;
};

TEST_F(TrainerProcessTest, LocksItselfDownTrainsAndSendsASealedDelta) {
  Start();
  Tell(configure_);
  ASSERT_OK_AND_ASSIGN(auto ready, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Ready>(ready.message))
      << std::get<sandbox::Failed>(ready.message).what;
  EXPECT_EQ(std::get<sandbox::Ready>(ready.message).lockdown, sandbox::Ready::Lockdown::kFull);
  Tell(prepare_);
  ASSERT_OK_AND_ASSIGN(auto prepared, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Prepared>(prepared.message));
  ASSERT_OK_AND_ASSIGN(const FileDescriptor weights, sandbox::SealFloats(adapter_));
  Tell(task_, weights.get());
  ASSERT_OK_AND_ASSIGN(auto trained, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Trained>(trained.message));
  ASSERT_OK_AND_ASSIGN(const auto delta,
                       sandbox::OpenSealed(trained.memory.get(), layout_->delta_elements()));
  EXPECT_EQ(delta->view().size(), layout_->delta_elements() * sizeof(float));
}

TEST_F(TrainerProcessTest, DrawsSamplesAndNoiseWhileLockedDown) {
  task_.local_steps = 1;
  task_.privacy = sandbox::UnitPrivacy{.unit = sandbox::UnitPrivacy::Unit::kRecord,
                                       .clip = 1,
                                       .noise_multiplier = 1,
                                       .sampling_rate = 0.05,
                                       .expected_units = 2,
                                       .metrics_noise_multiplier = 1,
                                       .loss_bound = 10,
                                       .delta = 1e-5};
  Start();
  Tell(configure_);
  ASSERT_OK_AND_ASSIGN(auto ready, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Ready>(ready.message))
      << std::get<sandbox::Failed>(ready.message).what;
  EXPECT_EQ(std::get<sandbox::Ready>(ready.message).lockdown, sandbox::Ready::Lockdown::kFull);
  Tell(prepare_);
  ASSERT_OK_AND_ASSIGN(auto prepared, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Prepared>(prepared.message));
  ASSERT_OK_AND_ASSIGN(const FileDescriptor weights, sandbox::SealFloats(adapter_));
  std::vector<Bytes> deltas;
  for (int i = 0; i < 2; ++i) {
    Tell(task_, weights.get());
    ASSERT_OK_AND_ASSIGN(auto trained, Hear());
    ASSERT_TRUE(std::holds_alternative<sandbox::Trained>(trained.message))
        << std::get<sandbox::Failed>(trained.message).what;
    ASSERT_OK_AND_ASSIGN(const auto delta,
                         sandbox::OpenSealed(trained.memory.get(), layout_->delta_elements()));
    deltas.emplace_back(delta->view().begin(), delta->view().end());
  }
  EXPECT_NE(deltas[0], deltas[1]);
  // The region has no field for persons: the trainer says so and goes on.
  task_.privacy->unit = sandbox::UnitPrivacy::Unit::kPerson;
  Tell(task_, weights.get());
  ASSERT_OK_AND_ASSIGN(auto refused, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Failed>(refused.message));
  EXPECT_EQ(std::get<sandbox::Failed>(refused.message).code,
            static_cast<uint8_t>(StatusCode::kFailedPrecondition));
}

TEST_F(TrainerProcessTest, ACommandBeforeTheConfigurationIsRefused) {
  Start();
  Tell(prepare_);
  ASSERT_OK_AND_ASSIGN(auto answer, Hear());
  ASSERT_TRUE(std::holds_alternative<sandbox::Failed>(answer.message));
  EXPECT_NE(std::get<sandbox::Failed>(answer.message).what.find("before the configuration"),
            std::string::npos);
}

TEST_F(TrainerProcessTest, EndsWhenItsWorkerIsGone) {
  Start();
  channel_.reset();
  int status = 0;
  ASSERT_EQ(::waitpid(child_, &status, 0), child_);
  child_ = -1;
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace concordat::train
