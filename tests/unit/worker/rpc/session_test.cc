#include "worker/rpc/session.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "common/version.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "proto/wire.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "worker/rpc/trainer_process.h"
#include "worker/rpc/transfers.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

Digest DigestOf(std::string_view text) { return crypto::Sha256(AsBytes(text)); }

/// A coordinator that does what a test tells it, on a unix socket without TLS.
class FakeCoordinator final : public pb::Federation::Service {
 public:
  explicit FakeCoordinator(const TempDir& folder) : address_("unix:" + (folder / "s").string()) { Start(); }
  ~FakeCoordinator() override { Halt(); }

  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  void Halt() {
    if (!server_) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_.reset();
  }
  std::shared_ptr<grpc::Channel> Channel() const {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 10);
    args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), args);
  }

  grpc::Status Session(grpc::ServerContext*,
                       grpc::ServerReaderWriter<pb::CoordinatorMessage, pb::WorkerMessage>* stream) override {
    pb::WorkerMessage in;
    if (!stream->Read(&in) || !in.has_hello()) return {grpc::StatusCode::FAILED_PRECONDITION, "no hello"};
    pb::CoordinatorMessage hello;
    hello.mutable_hello()->set_protocol(protocol);
    hello.mutable_hello()->set_version("9.9.9");
    hello.mutable_hello()->set_charter(wire::BytesOf(charter));
    stream->Write(hello);
    stream->Write(first);
    while (stream->Read(&in)) {
      const std::lock_guard lock(mutex_);
      heard_.push_back(in);
      changed_.notify_all();
      if (in.has_pong() && in.pong().sequence() == 666) return hang_up;
    }
    return grpc::Status::OK;
  }

  grpc::Status PutChunk(grpc::ServerContext*, const pb::PutChunkRequest* request,
                        pb::PutChunkReply* reply) override {
    std::unique_lock lock(mutex_);
    ++chunks_;
    sent_again_ += request->data().size();
    if (refuse_upload) return {grpc::StatusCode::FAILED_PRECONDITION, "not open"};
    if (crypto::Sha256(AsBytes(request->data())).view().size() != request->sha256().size() ||
        wire::BytesOf(crypto::Sha256(AsBytes(request->data()))) != request->sha256())
      return {grpc::StatusCode::DATA_LOSS, "hash"};
    if (lose_every > 0 && chunks_ % lose_every == 0) {
      // Half of the losses happen before the chunk is stored, half after.
      if (chunks_ % (2 * lose_every) == 0) Keep(*request);
      return {grpc::StatusCode::UNAVAILABLE, "lost"};
    }
    if (forget_at > 0 && chunks_ == forget_at) {
      pieces_.clear();
      return {grpc::StatusCode::UNAVAILABLE, "restarted"};
    }
    if (hold_first_for > 0 && request->offset() == 0)
      changed_.wait(lock, [this] { return pieces_.size() >= hold_first_for; });
    if (store_below == 0 || request->offset() < store_below) Keep(*request);
    reply->set_stored(Prefix().size() + claim_more);
    return grpc::Status::OK;
  }
  grpc::Status UploadState(grpc::ServerContext*, const pb::UploadStateRequest*,
                           pb::PutChunkReply* reply) override {
    const std::lock_guard lock(mutex_);
    reply->set_stored(Prefix().size());
    return grpc::Status::OK;
  }
  grpc::Status GetBlob(grpc::ServerContext*, const pb::GetBlobRequest* request,
                       grpc::ServerWriter<pb::BlobChunk>* writer) override {
    ++gets;
    const auto it = blobs.find(request->sha256());
    if (it == blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such file"};
    uint64_t at = request->offset();
    for (int sent = 0; at < it->second.size(); ++sent) {
      if (break_after > 0 && sent == break_after) return {grpc::StatusCode::UNAVAILABLE, "broken"};
      pb::BlobChunk chunk;
      chunk.set_offset(at);
      chunk.set_total(it->second.size() + lie_total);
      chunk.set_data(it->second.substr(at, 1000));
      at += chunk.data().size();
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }
  pb::WorkerMessage Heard(size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return heard_.size() > index; });
    return heard_[index];
  }
  std::string stored() {
    const std::lock_guard lock(mutex_);
    return Prefix();
  }
  void ForgetStored() { KeepStored(0); }
  void KeepStored(uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::string kept = Prefix().substr(0, bytes);
    pieces_.clear();
    if (!kept.empty()) pieces_[0] = kept;
    sent_again_ = 0;
  }
  /// Bytes that came since KeepStored.
  uint64_t sent_again() {
    const std::lock_guard lock(mutex_);
    return sent_again_;
  }

  uint32_t protocol = kProtocolVersion;
  Digest charter = DigestOf("charter");
  pb::CoordinatorMessage first;
  grpc::Status hang_up;
  bool refuse_upload = false;
  uint64_t claim_more = 0;
  uint64_t lose_every = 0;
  uint64_t forget_at = 0;     // the chunk at which all that is stored is lost
  uint64_t store_below = 0;   // chunks from here on are acknowledged and not stored
  size_t hold_first_for = 0;  // the first chunk's answer waits for as many others
  std::map<std::string, std::string> blobs;
  int break_after = 0;
  uint64_t lie_total = 0;
  std::atomic<int> gets{0};

 private:
  void Keep(const pb::PutChunkRequest& request) {
    std::string& piece = pieces_[request.offset()];
    if (piece.size() < request.data().size()) piece = request.data();
    changed_.notify_all();
  }
  std::string Prefix() const {
    std::string out;
    for (const auto& [offset, data] : pieces_)
      if (offset <= out.size() && offset + data.size() > out.size()) out += data.substr(out.size() - offset);
    return out;
  }

  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<pb::WorkerMessage> heard_;
  std::map<uint64_t, std::string> pieces_;
  uint64_t chunks_ = 0;
  uint64_t sent_again_ = 0;
};

/// What a session's handlers said, in order.
class Listener {
 public:
  Session::Handlers Handlers() {
    return {[this] { Add("up"); }, [this](const std::string& why) { Add("down: " + why); },
            [this](const FromCoordinator& m) {
              Add(std::holds_alternative<Ping>(m) ? "ping" : "another message");
            },
            [this](const std::string& text) { Add("trouble: " + text); }};
  }
  std::string Wait(size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return lines_.size() > index; });
    return lines_[index];
  }

 private:
  void Add(std::string line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

SessionOptions Options() {
  SessionOptions options;
  options.address = "test";
  options.charter = DigestOf("charter");
  options.first_backoff = Millis(5);
  options.longest_backoff = Millis(20);
  options.refused_backoff = Millis(5);
  options.displaced_backoff = Millis(5);
  return options;
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { coordinator_.first.mutable_ping()->set_sequence(1); }
  Dial Dials() {
    return [this] { return coordinator_.Channel(); };
  }

  TempDir folder_;
  FakeCoordinator coordinator_{folder_};
  Listener listener_;
};

TEST_F(SessionTest, SaysHelloAndPassesMessagesBothWays) {
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  EXPECT_EQ(listener_.Wait(0), "up");
  EXPECT_EQ(listener_.Wait(1), "ping");
  session.Send(Pong{1});
  session.Send(Pong{2});
  EXPECT_EQ(coordinator_.Heard(0).pong().sequence(), 1u);
  EXPECT_EQ(coordinator_.Heard(1).pong().sequence(), 2u);
}

TEST_F(SessionTest, ComesBackAfterTheCoordinatorHungUp) {
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  listener_.Wait(1);
  session.Send(Pong{666});
  EXPECT_TRUE(listener_.Wait(2).starts_with("down: "));
  EXPECT_EQ(listener_.Wait(3), "up");
}

TEST_F(SessionTest, TheReasonOfAStreamThatTheCoordinatorEndsIsHeard) {
  coordinator_.hang_up = {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many messages wait"};
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  listener_.Wait(1);
  session.Send(Pong{666});
  EXPECT_EQ(listener_.Wait(2), "down: too many messages wait");
}

TEST_F(SessionTest, AWorkerThatAnotherOneDisplacesSaysSoInItsOwnWordsAndComesBackLater) {
  coordinator_.hang_up = {grpc::StatusCode::ALREADY_EXISTS, "anything"};
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  listener_.Wait(1);
  session.Send(Pong{666});
  const std::string line = listener_.Wait(2);
  EXPECT_NE(line.find("another worker with this identity"), std::string::npos) << line;
  EXPECT_EQ(listener_.Wait(3), "up");
}

TEST(DisplacedBackoffTest, GrowsToAMinuteAndBeginsAnewAfterAnotherEnd) {
  DisplacedBackoff backoff{SessionOptions()};
  Millis last{0};
  for (int i = 0; i < 10; ++i) {
    const Millis wait = backoff.Next();
    EXPECT_TRUE(wait > last || wait == Millis(60'000)) << wait.count();
    last = wait;
  }
  EXPECT_EQ(last, Millis(60'000));
  backoff.Reset();
  EXPECT_EQ(backoff.Next(), Millis(2'000));
}

TEST_F(SessionTest, ComesBackAfterTheCoordinatorWasRestarted) {
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  listener_.Wait(1);
  coordinator_.Halt();
  EXPECT_TRUE(listener_.Wait(2).starts_with("down: "));
  coordinator_.Start();
  size_t i = 3;
  while (listener_.Wait(i) != "up") ++i;
}

TEST_F(SessionTest, AnotherProtocolIsRefusedNamingBoth) {
  coordinator_.protocol = 7;
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  const std::string line = listener_.Wait(0);
  EXPECT_NE(line.find("protocol 7 (version 9.9.9)"), std::string::npos) << line;
  EXPECT_NE(line.find("this worker 1 (version 0.1.0)"), std::string::npos) << line;
}

TEST_F(SessionTest, AnotherCharterIsRefusedNamingBoth) {
  coordinator_.charter = DigestOf("another");
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  const std::string line = listener_.Wait(0);
  EXPECT_NE(line.find(DigestOf("another").brief()), std::string::npos) << line;
  EXPECT_NE(line.find(DigestOf("charter").brief()), std::string::npos) << line;
}

TEST_F(SessionTest, AMalformedMessageEndsTheConnection) {
  coordinator_.first.Clear();
  coordinator_.first.mutable_offer()->set_threshold(3);
  Session session(Options(), coordinator_.Channel(), listener_.Handlers());
  session.Start();
  EXPECT_EQ(listener_.Wait(0), "up");
  EXPECT_NE(listener_.Wait(1).find("malformed"), std::string::npos);
}

// ---- Uploads.

struct UploadResult {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<UploadEvent> events;

  void Add(UploadEvent event) {
    const std::lock_guard lock(mutex);
    events.push_back(std::move(event));
    changed.notify_all();
  }
  UploadEvent End() {
    std::unique_lock lock(mutex);
    changed.wait(lock,
                 [&] { return !events.empty() && !std::holds_alternative<UploadProgress>(events.back()); });
    return events.back();
  }
};

StartUpload Order(uint64_t elements, uint32_t modulus_bits = kPlainBits) {
  EncodingConfig config;
  config.modulus_bits = modulus_bits;
  config.elements = elements;
  config.clip = 1;
  config.sites = 3;
  config.noise_stddev = 4;
  StartUpload order;
  order.id = {DigestOf("job"), 2, 1};
  order.plan = *EncodingPlan::Make(config);
  order.delta = SecretFloats(std::vector<float>(elements, 0.001f));
  order.seed = Secret32(DigestOf("seed").bytes);
  order.masks = {{Secret32(DigestOf("mask").bytes), 1}};
  return order;
}

std::string Expected(const StartUpload& order) {
  const auto encoder = Encoder::Make(order.plan, *order.delta, 1, {}, order.seed);
  std::vector<uint32_t> words(order.plan.total_elements());
  EXPECT_OK(encoder->Encode(0, words));
  secagg::MaskStream(order.masks).Apply(0, words);
  Bytes scratch;
  const ByteView wire = WireBytes(words, order.plan.config().modulus_bits, scratch);
  return {wire.begin(), wire.end()};
}

TEST_F(SessionTest, AnUploadArrivesWholeAndIsDeletedAfterwards) {
  const StartUpload order = Order(700'000);
  const std::string expected = Expected(order);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(end));
  EXPECT_EQ(std::get<Uploaded>(end).elements, 700'000u);
  EXPECT_EQ(std::get<Uploaded>(end).sha256, DigestOf(expected));
  EXPECT_TRUE(coordinator_.stored() == expected);
  EXPECT_TRUE(std::filesystem::exists(folder_ / OutboxName(order.id)));
  upload.Discard();
  EXPECT_FALSE(std::filesystem::exists(folder_ / OutboxName(order.id)));
}

TEST_F(SessionTest, TheSitesOfALargeRosterUploadOverFewerConnections) {
  for (const auto& [sites, connections] :
       std::vector<std::pair<uint32_t, size_t>>{{3, 4}, {16, 4}, {32, 2}, {100, 1}}) {
    size_t dialled = 0;
    StartUpload order = Order(700'000);
    EncodingConfig config = order.plan.config();
    config.sites = sites;
    order.plan = *EncodingPlan::Make(config);
    TempDir folder;
    FakeCoordinator coordinator(folder);
    UploadResult result;
    const Dial dial = [&] { return ++dialled, coordinator.Channel(); };
    Upload upload(order, folder.path(), dial, [&](UploadEvent e) { result.Add(std::move(e)); });
    upload.Start();
    ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End())) << sites;
    upload.Discard();
    EXPECT_EQ(dialled, connections) << sites;
  }
}

TEST_F(SessionTest, AChunkThatGotLostIsSentAgainWithTheSameBytes) {
  coordinator_.lose_every = 2;
  const StartUpload order = Order(1'500'000);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  EXPECT_TRUE(coordinator_.stored() == Expected(order));
  upload.Discard();
}

TEST_F(SessionTest, AnUploadThatTheCoordinatorDoesNotTakeEndsWithWhatLeft) {
  coordinator_.refuse_upload = true;
  const StartUpload order = Order(100'000);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<UploadEnded>(end));
  EXPECT_THAT(std::get<UploadEnded>(end).status, HasStatus(StatusCode::kFailedPrecondition, "not open"));
  const uint64_t left = std::get<UploadEnded>(end).left_bytes;
  EXPECT_GT(left, 0u);
  EXPECT_LE(left, 400'000u);
  EXPECT_EQ(std::get<UploadEnded>(end).sha256, DigestOf(Expected(order).substr(0, left)));
  upload.Discard();
}

TEST_F(SessionTest, ACoordinatorThatClaimsMoreThanWasSentIsNotBelieved) {
  coordinator_.claim_more = 50'000'000;
  UploadResult result;
  Upload upload(Order(100'000), folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  EXPECT_TRUE(std::holds_alternative<UploadEnded>(result.End()));
  upload.Discard();
}

TEST_F(SessionTest, ChunksOvertakeOneThatIsHeldUp) {
  coordinator_.hold_first_for = 8;
  const StartUpload order = Order(700'000);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  EXPECT_TRUE(coordinator_.stored() == Expected(order));
  upload.Discard();
}

TEST_F(SessionTest, WhatARestartedCoordinatorLostIsSentAgain) {
  coordinator_.forget_at = 12;
  const StartUpload order = Order(700'000);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  EXPECT_TRUE(coordinator_.stored() == Expected(order));
  upload.Discard();
}

TEST_F(SessionTest, ACoordinatorThatAcknowledgesWhatItDoesNotStoreIsGivenUp) {
  coordinator_.store_below = 500'000;
  UploadResult result;
  Upload upload(Order(700'000), folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<UploadEnded>(end));
  EXPECT_THAT(std::get<UploadEnded>(end).status, HasStatus(StatusCode::kInvalidArgument, "not store"));
  upload.Discard();
}

TEST_F(SessionTest, AnUploadGoesOnOnceTheCoordinatorIsBack) {
  const StartUpload order = Order(700'000);
  coordinator_.Halt();
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  coordinator_.Start();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  EXPECT_TRUE(coordinator_.stored() == Expected(order));
  upload.Discard();
}

TEST_F(SessionTest, AnUploadWhoseFileExistsIsNeverMadeAgain) {
  const StartUpload order = Order(1000);
  ASSERT_OK(WriteFileAtomically(folder_ / OutboxName(order.id), std::string_view("made before")));
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<UploadEnded>(end));
  EXPECT_EQ(std::get<UploadEnded>(end).left_bytes, 0u);
  EXPECT_EQ(coordinator_.stored(), "");
}

TEST_F(SessionTest, ALaterProcessSendsWhatWasStoredAndNothingElse) {
  const StartUpload order = Order(1'500'000);
  const std::string expected = Expected(order);
  {
    UploadResult result;
    Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
    upload.Start();
    ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  }  // killed before anybody heard of it
  coordinator_.ForgetStored();
  UploadResult result;
  Upload again(ResumeUpload{order.id, 1'500'000}, folder_.path(), Dials(),
               [&](UploadEvent e) { result.Add(std::move(e)); });
  again.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(end));
  EXPECT_EQ(std::get<Uploaded>(end).sha256, DigestOf(expected));
  EXPECT_TRUE(coordinator_.stored() == expected);
  again.Discard();
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
    EXPECT_TRUE(std::filesystem::is_socket(entry)) << entry.path();
}

// Words of three bytes: pieces that get lost and are sent again begin and end anywhere in a word.
TEST_F(SessionTest, APackedUploadArrivesWholeInThreeBytesAnElement) {
  coordinator_.lose_every = 3;
  const StartUpload order = Order(1'500'001, kPackedBits);
  const std::string expected = Expected(order);
  ASSERT_EQ(expected.size(), 4'500'003u);
  UploadResult result;
  Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(end));
  EXPECT_EQ(std::get<Uploaded>(end).elements, 1'500'001u);
  EXPECT_EQ(std::get<Uploaded>(end).bytes, 4'500'003u);
  EXPECT_EQ(std::get<Uploaded>(end).sha256, DigestOf(expected));
  EXPECT_TRUE(coordinator_.stored() == expected);
  upload.Discard();
}

TEST_F(SessionTest, ALaterProcessGoesOnWithAPackedUploadWhereTheCoordinatorStopped) {
  const StartUpload order = Order(1'500'001, kPackedBits);
  const std::string expected = Expected(order);
  {
    UploadResult result;
    Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
    upload.Start();
    ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  }
  coordinator_.KeepStored(1'000'000);  // not at the end of a word, nor of a chunk
  UploadResult result;
  Upload again(ResumeUpload{order.id, 1'500'001, kPackedBits}, folder_.path(), Dials(),
               [&](UploadEvent e) { result.Add(std::move(e)); });
  again.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<Uploaded>(end));
  EXPECT_EQ(std::get<Uploaded>(end).sha256, DigestOf(expected));
  EXPECT_TRUE(coordinator_.stored() == expected);
  EXPECT_EQ(coordinator_.sent_again(), expected.size() - 1'000'000);
  again.Discard();
}

TEST_F(SessionTest, WhatWasStoredInWordsOfAnotherSizeIsNotSent) {
  const StartUpload order = Order(1'500'001, kPackedBits);
  {
    UploadResult result;
    Upload upload(order, folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
    upload.Start();
    ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  }
  coordinator_.ForgetStored();
  UploadResult result;
  Upload again(ResumeUpload{order.id, 1'500'001, kPlainBits}, folder_.path(), Dials(),
               [&](UploadEvent e) { result.Add(std::move(e)); });
  again.Start();
  const UploadEvent end = result.End();
  ASSERT_TRUE(std::holds_alternative<UploadEnded>(end));
  EXPECT_EQ(std::get<UploadEnded>(end).status.code(), StatusCode::kAborted);
  EXPECT_EQ(coordinator_.stored(), "");
  again.Discard();
}

TEST_F(SessionTest, ALaterProcessDoesNotSendWhatIsNotWhole) {
  const StartUpload order = Order(700'000);
  const auto file = folder_.path() / OutboxName(order.id);
  const auto outcome = [&] {
    coordinator_.ForgetStored();
    UploadResult result;
    Upload again(ResumeUpload{order.id, 700'000}, file.parent_path(), Dials(),
                 [&](UploadEvent e) { result.Add(std::move(e)); });
    again.Start();
    return result.End();
  };
  const auto expect_lost = [&](std::string_view what, uint64_t left) {
    const UploadEvent end = outcome();
    ASSERT_TRUE(std::holds_alternative<UploadEnded>(end)) << what;
    EXPECT_EQ(std::get<UploadEnded>(end).status.code(), StatusCode::kAborted) << what;
    EXPECT_EQ(std::get<UploadEnded>(end).left_bytes, left) << what << ": all that is stored may have left";
    EXPECT_TRUE(coordinator_.stored().empty()) << what;
  };
  {
    UploadResult result;
    Upload upload(order, file.parent_path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
    upload.Start();
    ASSERT_TRUE(std::holds_alternative<Uploaded>(result.End()));
  }
  const Bytes whole = *ReadFile(file);
  Bytes torn = whole;
  std::fill(torn.begin() + 2'000'000, torn.begin() + 2'004'096,
            uint8_t{0});  // a page that never hit the disk
  ASSERT_OK(WriteFileAtomically(file, ByteView(torn), 0600));
  expect_lost("a zeroed page", 2'800'000);
  ASSERT_OK(WriteFileAtomically(file, ByteView(whole).first(2'500'000), 0600));
  expect_lost("a short file", 2'500'000);
  ASSERT_OK(WriteFileAtomically(file, ByteView(whole), 0600));
  std::filesystem::resize_file(file.string() + ".sha256", 64);
  expect_lost("a digest short", 2'800'000);
  Upload::Delete(file);
  expect_lost("nothing at all", 0);
}

TEST_F(SessionTest, ACancelledUploadEndsOnceAndSaysHowMuchLeft) {
  coordinator_.lose_every = 1;  // nothing gets through
  UploadResult result;
  Upload upload(Order(600'000), folder_.path(), Dials(), [&](UploadEvent e) { result.Add(std::move(e)); });
  upload.Start();
  upload.Cancel();
  ASSERT_TRUE(std::holds_alternative<UploadEnded>(result.End()));
  upload.Discard();
  EXPECT_EQ(result.events.size(), 1u);
}

TEST(OutboxTest, NamesReadBack) {
  const AttemptId id{DigestOf("job"), 12, 3};
  ASSERT_OK_AND_ASSIGN(const AttemptId read, ParseOutboxName(OutboxName(id)));
  EXPECT_EQ(read, id);
  for (const char* bad : {"", "x.y", "abc-1-2.y", "..", "lock"}) EXPECT_FALSE(ParseOutboxName(bad).ok());
  EXPECT_FALSE(ParseOutboxName(id.job.hex() + "-1.y").ok());
  EXPECT_FALSE(ParseOutboxName(id.job.hex() + "-1--2.y").ok());
}

// ---- Downloads.

struct Downloads {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Fetched> all;  // one that was waited for stays where it is
  Fetcher::OnFetched Handler() {
    return [this](Fetched f) {
      const std::lock_guard lock(mutex);
      all.push_back(std::move(f));
      changed.notify_all();
    };
  }
  const Fetched& Wait(size_t index) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return all.size() > index; });
    return all[index];
  }
};

TEST_F(SessionTest, ADownloadGoesOnWhereTheStreamBroke) {
  std::string content(5500, 'a');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7);
  coordinator_.blobs[wire::BytesOf(DigestOf(content))] = content;
  coordinator_.break_after = 2;
  Downloads downloads;
  Fetcher fetcher(folder_.path(), coordinator_.Channel(), downloads.Handler());
  fetcher.Get({DigestOf(content), 10'000});
  const Fetched& fetched = downloads.Wait(0);
  ASSERT_OK(fetched.content);
  EXPECT_EQ(AsText(*fetched.content), content);
  EXPECT_GE(coordinator_.gets, 3);
}

TEST_F(SessionTest, ADownloadWithAnotherHashTooLongOrUnknownFails) {
  coordinator_.blobs[wire::BytesOf(DigestOf("a"))] = "b";
  coordinator_.blobs[wire::BytesOf(DigestOf("long"))] = std::string(5000, 'x');
  Downloads downloads;
  Fetcher fetcher(folder_.path(), coordinator_.Channel(), downloads.Handler());
  fetcher.Get({DigestOf("a"), 100});
  fetcher.Get({DigestOf("long"), 100});
  fetcher.Get({DigestOf("nothing"), 100});
  EXPECT_THAT(downloads.Wait(0).content, HasStatus(StatusCode::kInvalidArgument, "another hash"));
  EXPECT_THAT(downloads.Wait(1).content, HasStatus(StatusCode::kInvalidArgument, "does not fit"));
  EXPECT_THAT(downloads.Wait(2).content, HasStatus(StatusCode::kNotFound, "no such file"));
}

TEST_F(SessionTest, WhatTheRegionKeepsIsNotDownloadedAgainUnlessItWasChanged) {
  const std::string content = "an adapter";
  coordinator_.blobs[wire::BytesOf(DigestOf(content))] = content;
  Downloads downloads;
  Fetcher fetcher(folder_.path(), coordinator_.Channel(), downloads.Handler());
  ASSERT_OK(fetcher.Keep({DigestOf(content), std::make_shared<const Bytes>(ToBytes(AsBytes(content)))}));
  fetcher.Get({DigestOf(content), 100});
  ASSERT_OK(downloads.Wait(0).content);
  EXPECT_EQ(coordinator_.gets, 0);
  ASSERT_OK(WriteFileAtomically(folder_ / DigestOf(content).hex(), std::string_view("tampered")));
  fetcher.Get({DigestOf(content), 100});
  ASSERT_OK(downloads.Wait(1).content);
  EXPECT_EQ(AsText(*downloads.Wait(1).content), content);
  EXPECT_EQ(coordinator_.gets, 1);
}

}  // namespace
}  // namespace concordat::worker
