#include "worker/sandbox/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>

namespace concordat::sandbox {
namespace {

Digest DigestOf(uint8_t fill) {
  Digest d;
  d.bytes.fill(fill);
  return d;
}

Configure SampleConfigure() {
  Configure m;
  m.base_model = "/srv/model.gguf";
  m.base_model_sha256 = DigestOf(3);
  m.dataset = "/srv/text";
  m.dataset_kind = 1;
  m.person_field = "patient_id";
  m.promise = UnitPromise{TrainedUnit::kPerson, 1e-6};
  m.split_key = DigestOf(9);
  m.held_out_permille = 100;
  m.canaries = 256;
  m.canary_key = DigestOf(5);
  m.device = "cuda:1";
  m.threads = 2;
  m.dtype = 2;
  m.scratch = "/srv/scratch";
  return m;
}

Prepare SamplePrepare() {
  return {{30, 576, 1536, 9, 3, 64}, {16, 32, {LoraTarget::kQ, LoraTarget::kDown}, LoraMethod::kFfa}, 512};
}

Audited FullAudited() {
  return {audit::Membership{100, 200, 0.75, 0.02, 0.25}, audit::Exposure{64, 256, 1.5, 1.25, 8, 2},
          audit::OneRunAudit{128, 32, 30, 1e-6, 0.95, 1.5, 2.5}, 12.5};
}

std::vector<FromTrainer> TrainerMessages() {
  return {Ready{Ready::Lockdown::kFull, {30, 576, 1536, 9, 3, 64}, 10, 2, 4000, 7},
          Prepared{},
          TrainerProgress{500, 301.5, 2.25},
          Trained{2.5, 1000, 2000, 3.5, 8},
          Trained{2.5, 1000, 2000, 3.5, 1, RoundSums{-7, 1LL << 40}},
          Evaluated{1.25, 0.01, 20, 30000, 4},
          Evaluated{1.25, 0.01, 20, 30000, 4, UnitSums{-3, 1 << 30}},
          Audited{},
          FullAudited(),
          Failed{9, "no documents"}};
}

Train PrivateTrain(UnitPrivacy::Unit unit) {
  Train m{7, 2, 8, 1, 1e-4, 0.01, 0.95, 1};
  m.privacy = UnitPrivacy{unit, 0.5, 1.1, 0.02, 64, 5, 12, 1e-6};
  return m;
}

Train SumTrain() {
  Train m = PrivateTrain(UnitPrivacy::Unit::kPerson);
  m.privacy->sum = UnitSum{0.015625, 4'000'000, 838};
  return m;
}

std::vector<ToTrainer> WorkerMessages() {
  return {SampleConfigure(),
          SamplePrepare(),
          Train{7, 2, 8, 1, 1e-4, 0.01, 0.95, 1},
          PrivateTrain(UnitPrivacy::Unit::kPerson),
          PrivateTrain(UnitPrivacy::Unit::kRecord),
          SumTrain(),
          Evaluate{true, 100},
          Evaluate{false, 0, UnitBounds{UnitPrivacy::Unit::kPerson, 512, 4, 16}},
          Audit{500, 1e-6, 0.95},
          Stop{}};
}

std::pair<Channel, Channel> MakePair() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
  return {Channel(FileDescriptor(fds[0])), Channel(FileDescriptor(fds[1]))};
}

TEST(ChannelTest, EveryMessageReadsBackAsItself) {
  for (const ToTrainer& m : WorkerMessages()) {
    const auto read = DecodeToTrainer(Encode(m));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Encode(*read), Encode(m));
    EXPECT_EQ(read->index(), m.index());
  }
  for (const FromTrainer& m : TrainerMessages()) {
    const auto read = DecodeFromTrainer(Encode(m));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Encode(*read), Encode(m));
    EXPECT_EQ(read->index(), m.index());
  }
}

TEST(ChannelTest, FieldsKeepTheirValues) {
  const auto read = DecodeToTrainer(Encode(ToTrainer(SamplePrepare())));
  ASSERT_TRUE(read.ok());
  const auto& m = std::get<Prepare>(*read);
  EXPECT_EQ(m.shape, SamplePrepare().shape);
  EXPECT_EQ(m.adapter, SamplePrepare().adapter);
  EXPECT_EQ(m.sequence_tokens, 512u);
}

TEST(ChannelTest, EveryMethodPassesAndNoOther) {
  for (const LoraMethod method : kAllLoraMethods) {
    Prepare m = SamplePrepare();
    m.adapter.method = method;
    const auto read = DecodeToTrainer(Encode(ToTrainer(m)));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(std::get<Prepare>(*read).adapter.method, method);
  }
  Prepare unknown = SamplePrepare();
  unknown.adapter.method = static_cast<LoraMethod>(kAllLoraMethods.size());
  EXPECT_EQ(DecodeToTrainer(Encode(ToTrainer(unknown))).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChannelTest, ConfigurationAndPrivacyKeepTheirValues) {
  const auto configure = DecodeToTrainer(Encode(ToTrainer(SampleConfigure())));
  ASSERT_TRUE(configure.ok());
  EXPECT_EQ(std::get<Configure>(*configure).person_field, "patient_id");
  EXPECT_EQ(std::get<Configure>(*configure).dataset, "/srv/text");
  EXPECT_EQ(std::get<Configure>(*configure).canaries, 256u);
  EXPECT_EQ(std::get<Configure>(*configure).canary_key, DigestOf(5));
  const auto train = DecodeToTrainer(Encode(ToTrainer(PrivateTrain(UnitPrivacy::Unit::kPerson))));
  ASSERT_TRUE(train.ok());
  const auto& p = std::get<Train>(*train).privacy;
  ASSERT_TRUE(p.has_value());
  EXPECT_EQ(p->unit, UnitPrivacy::Unit::kPerson);
  EXPECT_EQ(p->clip, 0.5);
  EXPECT_EQ(p->noise_multiplier, 1.1);
  EXPECT_EQ(p->sampling_rate, 0.02);
  EXPECT_EQ(p->expected_units, 64);
  EXPECT_EQ(p->metrics_noise_multiplier, 5);
  EXPECT_EQ(p->loss_bound, 12);
  EXPECT_EQ(p->delta, 1e-6);
  const auto plain = DecodeToTrainer(Encode(ToTrainer(Train{})));
  ASSERT_TRUE(plain.ok());
  EXPECT_FALSE(std::get<Train>(*plain).privacy.has_value());
}

TEST(ChannelTest, RefusesPrivacyOfAnUnknownUnitOrWithNumbersThatAreNotFinite) {
  const Bytes good = Encode(ToTrainer(PrivateTrain(UnitPrivacy::Unit::kRecord)));
  ASSERT_TRUE(DecodeToTrainer(good).ok());
  const size_t flag = good.size() - 7 * 8 - 2, unit = flag + 1;
  ASSERT_EQ(good[flag], 1);
  ASSERT_EQ(good[unit], 3);
  for (const uint8_t code : {0, 1, 4, 255}) {
    Bytes bad = good;
    bad[unit] = code;
    EXPECT_EQ(DecodeToTrainer(bad).status().code(), StatusCode::kInvalidArgument) << int{code};
  }
  Bytes unsure = good;
  unsure[flag] = 2;
  EXPECT_FALSE(DecodeToTrainer(unsure).ok());
  for (double UnitPrivacy::*field :
       {&UnitPrivacy::clip, &UnitPrivacy::noise_multiplier, &UnitPrivacy::sampling_rate,
        &UnitPrivacy::expected_units, &UnitPrivacy::metrics_noise_multiplier, &UnitPrivacy::loss_bound,
        &UnitPrivacy::delta}) {
    for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      Train bad = PrivateTrain(UnitPrivacy::Unit::kRecord);
      (*bad.privacy).*field = value;
      EXPECT_EQ(DecodeToTrainer(Encode(ToTrainer(bad))).status().code(), StatusCode::kInvalidArgument);
    }
  }
}

TEST(ChannelTest, SumsOverUnitsKeepTheirValues) {
  const auto train = DecodeToTrainer(Encode(ToTrainer(SumTrain())));
  ASSERT_TRUE(train.ok()) << train.status();
  const auto& p = std::get<Train>(*train).privacy;
  ASSERT_TRUE(p.has_value() && p->sum.has_value());
  EXPECT_EQ(p->unit, UnitPrivacy::Unit::kPerson);
  EXPECT_EQ(p->sum->grid, 0.015625);
  EXPECT_EQ(p->sum->largest, 4'000'000u);
  EXPECT_EQ(p->sum->metric_units, 838u);
  const auto trained =
      DecodeFromTrainer(Encode(FromTrainer(Trained{0, 0, 0, 0, 1, RoundSums{-7, 1LL << 40}})));
  ASSERT_TRUE(trained.ok());
  EXPECT_EQ(std::get<Trained>(*trained).sums->loss, -7);
  EXPECT_EQ(std::get<Trained>(*trained).sums->targets, 1LL << 40);
  Prepare prepare = SamplePrepare();
  prepare.may_be_empty = true;
  EXPECT_TRUE(std::get<Prepare>(*DecodeToTrainer(Encode(ToTrainer(prepare)))).may_be_empty);
  Train bad = SumTrain();
  bad.privacy->sum->grid = std::nan("");
  EXPECT_EQ(DecodeToTrainer(Encode(ToTrainer(bad))).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChannelTest, AnAuditAndItsFiguresKeepTheirValues) {
  const auto asked = DecodeToTrainer(Encode(ToTrainer(Audit{500, 1e-6, 0.95})));
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(std::get<Audit>(*asked).max_documents, 500u);
  EXPECT_EQ(std::get<Audit>(*asked).delta, 1e-6);
  EXPECT_EQ(std::get<Audit>(*asked).confidence, 0.95);
  const Audited all = FullAudited();
  const auto told = DecodeFromTrainer(Encode(FromTrainer(all)));
  ASSERT_TRUE(told.ok());
  EXPECT_EQ(std::get<Audited>(*told).membership, all.membership);
  EXPECT_EQ(std::get<Audited>(*told).exposure, all.exposure);
  EXPECT_EQ(std::get<Audited>(*told).one_run, all.one_run);
  EXPECT_EQ(std::get<Audited>(*told).seconds, 12.5);
  Audited bad = all;
  bad.one_run->epsilon = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(DecodeFromTrainer(Encode(FromTrainer(bad))).ok());
}

TEST(ChannelTest, WhatTheCardPromisesArrivesAndAnotherUnitThanPersonOrRecordDoesNot) {
  Configure m = SampleConfigure();
  const auto told = DecodeToTrainer(Encode(ToTrainer(m)));
  ASSERT_TRUE(told.ok());
  ASSERT_TRUE(std::get<Configure>(*told).promise.has_value());
  EXPECT_EQ(std::get<Configure>(*told).promise->unit, TrainedUnit::kPerson);
  EXPECT_EQ(std::get<Configure>(*told).promise->delta, 1e-6);
  m.promise->unit = static_cast<TrainedUnit>(1);
  EXPECT_EQ(DecodeToTrainer(Encode(ToTrainer(m))).status().code(), StatusCode::kInvalidArgument);
  m.promise.reset();
  const auto none = DecodeToTrainer(Encode(ToTrainer(m)));
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(std::get<Configure>(*none).promise.has_value());
}

TEST(ChannelTest, RefusesAPersonFieldThatIsTooLong) {
  Configure m = SampleConfigure();
  m.person_field.assign(128, 'x');
  EXPECT_TRUE(DecodeToTrainer(Encode(ToTrainer(m))).ok());
  m.person_field += 'x';
  EXPECT_EQ(DecodeToTrainer(Encode(ToTrainer(m))).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChannelTest, RefusesEveryMessageThatIsCutShortOrTooLong) {
  for (const ToTrainer& m : WorkerMessages()) {
    const Bytes whole = Encode(m);
    for (size_t n = 0; n < whole.size(); ++n)
      EXPECT_EQ(DecodeToTrainer(ByteView(whole).first(n)).status().code(), StatusCode::kInvalidArgument);
    Bytes longer = whole;
    longer.push_back(0);
    EXPECT_FALSE(DecodeToTrainer(longer).ok());
  }
  for (const FromTrainer& m : TrainerMessages()) {
    const Bytes whole = Encode(m);
    for (size_t n = 0; n < whole.size(); ++n)
      EXPECT_EQ(DecodeFromTrainer(ByteView(whole).first(n)).status().code(), StatusCode::kInvalidArgument);
    Bytes longer = whole;
    longer.push_back(0);
    EXPECT_FALSE(DecodeFromTrainer(longer).ok());
  }
}

TEST(ChannelTest, RefusesAMessageOfTheOtherDirection) {
  for (const ToTrainer& m : WorkerMessages()) EXPECT_FALSE(DecodeFromTrainer(Encode(m)).ok());
  for (const FromTrainer& m : TrainerMessages()) EXPECT_FALSE(DecodeToTrainer(Encode(m)).ok());
}

TEST(ChannelTest, RefusesNumbersThatAreNotFiniteOrOutOfRange) {
  EXPECT_FALSE(DecodeFromTrainer(Encode(FromTrainer(Trained{std::nan(""), 1, 1, 1, 1}))).ok());
  EXPECT_FALSE(
      DecodeFromTrainer(Encode(FromTrainer(TrainerProgress{1, std::numeric_limits<double>::infinity(), 0})))
          .ok());
  EXPECT_FALSE(DecodeFromTrainer(Encode(FromTrainer(TrainerProgress{1001, 1, 1}))).ok());
  EXPECT_FALSE(DecodeFromTrainer(Encode(FromTrainer(Failed{17, "x"}))).ok());
}

TEST(ChannelTest, AFailureTextIsCutAndCannotCarryControlCharacters) {
  Failed failed;
  failed.code = 3;
  failed.what.assign(5000, 'x');
  failed.what += "\x1b[2J";
  const auto read = DecodeFromTrainer(Encode(FromTrainer(failed)));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(std::get<Failed>(*read).what.size(), 1000u);
  const auto escape = DecodeFromTrainer(Encode(FromTrainer(Failed{3, "a\x1b[2J\n"})));
  ASSERT_TRUE(escape.ok());
  EXPECT_EQ(std::get<Failed>(*escape).what, "a [2J ");
}

TEST(ChannelTest, SurvivesHostileBytes) {
  std::mt19937_64 random(20261122);
  size_t accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes(random() % 120);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    if (!bytes.empty()) bytes[0] = static_cast<uint8_t>(128 + random() % 8);
    const auto read = DecodeFromTrainer(bytes);
    if (read.ok()) {
      ++accepted;
      EXPECT_EQ(Encode(*read), bytes);
    }
  }
  EXPECT_LT(accepted, 20000u);
}

TEST(ChannelTest, CarriesAMessageAndItsSealedMemory) {
  auto [a, b] = MakePair();
  const std::vector<float> values = {1.5f, -2.0f, 3.25f};
  const auto memory = SealFloats(values);
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(a.Send(Encode(FromTrainer(Prepared{})), memory->get()).ok());
  auto received = b.Receive(1000);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(received->first, Encode(FromTrainer(Prepared{})));
  ASSERT_TRUE(received->second.valid());
  const auto map = OpenSealed(received->second.get(), 3);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(std::memcmp((*map)->view().data(), values.data(), 12), 0);
}

TEST(ChannelTest, SaysThatTheOtherEndIsGoneOrSilent) {
  auto [a, b] = MakePair();
  EXPECT_EQ(a.Receive(0).status().code(), StatusCode::kUnavailable);
  { const Channel gone = std::move(b); }
  EXPECT_EQ(a.Receive().status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(a.Send(Encode(FromTrainer(Prepared{}))).code(), StatusCode::kUnavailable);
}

TEST(ChannelTest, RefusesSeveralDescriptorsAndKeepsNoneOpen) {
  auto [a, b] = MakePair();
  const auto memory = SealFloats(std::vector<float>{1});
  ASSERT_TRUE(memory.ok());
  const int two[2] = {memory->get(), memory->get()};
  uint8_t byte = 130;
  iovec io{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof two)] = {};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof two);
  std::memcpy(CMSG_DATA(c), two, sizeof two);
  ASSERT_GE(::sendmsg(a.fd(), &header, 0), 0);
  const FileDescriptor before(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(b.Receive(1000).status().code(), StatusCode::kInvalidArgument);
  const FileDescriptor after(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(after.get(), before.get() + 1) << "a descriptor stayed open";
}

TEST(ChannelTest, RefusesAMessageThatIsTooLong) {
  auto [a, b] = MakePair();
  EXPECT_EQ(a.Send(Bytes(20000)).code(), StatusCode::kInvalidArgument);
  const Bytes large(20000);
  ASSERT_GE(::send(a.fd(), large.data(), large.size(), 0), 0);
  EXPECT_EQ(b.Receive(1000).status().code(), StatusCode::kInvalidArgument);
}

TEST(ChannelTest, SealedMemoryCannotBeChangedByTheSender) {
  const auto memory = SealFloats(std::vector<float>{1, 2});
  ASSERT_TRUE(memory.ok());
  EXPECT_LT(::write(memory->get(), "abcd", 4), 0);
  EXPECT_LT(::ftruncate(memory->get(), 4), 0);
  EXPECT_EQ(::mmap(nullptr, 8, PROT_READ | PROT_WRITE, MAP_SHARED, memory->get(), 0), MAP_FAILED);
}

TEST(ChannelTest, MemoryThatIsBusyForAMomentIsSealedWhenThatHasPassed) {
  const FileDescriptor fd(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_FALSE(SealMemory(fd.get(), std::chrono::milliseconds(1)).ok());
  std::thread holder([page] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ::munmap(page, 4096);
  });
  EXPECT_TRUE(SealMemory(fd.get()).ok());
  holder.join();
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0), MAP_FAILED);
}

TEST(ChannelTest, RefusesMemoryThatIsNotSealedOrOfAnotherSize) {
  const FileDescriptor open(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(open.get(), 8), 0);
  EXPECT_EQ(OpenSealed(open.get(), 2).status().code(), StatusCode::kInvalidArgument);
  // Sealed against size changes only: the sender could still write after the check.
  ASSERT_EQ(::fcntl(open.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
  EXPECT_FALSE(OpenSealed(open.get(), 2).ok());
  const FileDescriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(OpenSealed(null.get(), 0).ok());
  const auto memory = SealFloats(std::vector<float>{1, 2});
  ASSERT_TRUE(memory.ok());
  EXPECT_TRUE(OpenSealed(memory->get(), 2).ok());
  EXPECT_FALSE(OpenSealed(memory->get(), 3).ok());
  EXPECT_FALSE(OpenSealed(memory->get(), uint64_t{1} << 62).ok());
}

}  // namespace
}  // namespace concordat::sandbox
