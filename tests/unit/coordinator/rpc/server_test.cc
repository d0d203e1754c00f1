#include "coordinator/rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <fstream>
#include <functional>
#include <future>
#include <thread>

#include "aggregation/adapter_steps.h"
#include "common/files.h"
#include "common/version.h"
#include "concordat/v1/federation.grpc.pb.h"
#include "concordat/v1/jobs.grpc.pb.h"
#include "policy/job_privacy.h"
#include "policy/peer_verifier.h"
#include "policy/region_init.h"
#include "policy/signed_job.h"
#include "privacy/mechanism/encoder.h"
#include "privacy/mechanism/rotation.h"
#include "privacy/secagg/worker_round.h"
#include "proto/tls.h"
#include "proto/wire.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

// The real server over loopback mTLS with real certificates. The clients below do what a worker's shell does,
// with plain numbers in place of training.
namespace concordat::coordinator {
namespace {

namespace pb = concordat::v1;
using concordat::testing::TempDir;

const std::vector<std::string> kJurisdictions = {"de", "es", "fr", "gb"};

std::string Slurp(const std::filesystem::path& path) {
  auto text = ReadTextFile(path);
  EXPECT_TRUE(text.ok()) << text.status().ToString();
  return text.value_or("");
}

std::string JobYaml(const Digest& charter, uint32_t rounds, std::string_view jurisdictions,
                    uint32_t modulus_bits = kPlainBits) {
  return fmt::format(R"(name: small
seed: 7
charter: {}
base_model:
  name: tiny
  sha256: {}
  license: Apache-2.0
  shape: {{layers: 2, hidden: 64, intermediate: 128, heads: 4, kv_heads: 2, head_dim: 16}}
adapter: {{method: fedit, rank: 4, alpha: 8, targets: [q_proj, v_proj]}}
training:
  local_steps: 2
  batch_sequences: 1
  sequence_tokens: 16
  learning_rate: 0.001
  schedule: constant
rounds: {}
cohort:
  jurisdictions: [{}]
  minimum: 3
  min_survivors: 3
  assumed_colluding: 1
  attempts_per_round: 3
  wait: 1s
deadlines: {{advert: 20s, shares: 20s, input: 60s, agreement: 20s, unmask: 20s}}
privacy:
  unit: site
  noise: local
  clip: 1.0
  noise_multiplier: 0
  delta: 0.00001
  rounding: nearest
  modulus_bits: {}
metrics: {{loss_bound: 8, noise_multiplier: 0}}
server: {{learning_rate: 1.0}}
)",
                     charter.hex(), crypto::Sha256(AsBytes("base")).hex(), rounds, jurisdictions,
                     modulus_bits);
}

/// A charter with four members and a coordinator, all with their own CA, in a temporary folder.
class Treaty {
 public:
  explicit Treaty(const std::filesystem::path& root, bool adapters_to_es = true) : root_(root) {
    policy::Charter charter;
    charter.name = "test";
    charter.version = 1;
    charter.minimum_cohort = 3;
    policy::CoordinatorInitOptions options;
    options.jurisdiction = "neutral";
    options.ip_addresses = {"127.0.0.1"};
    EXPECT_OK(policy::InitCoordinator(root / "coordinator", options, clock_.Now(), random_));
    charter.coordinator.id = *SpiffeId::Make("neutral", Role::kCoordinator, "main");
    charter.coordinator.root_pem = Slurp(root / "coordinator/ca/root.pem");
    charter.coordinator.address = "127.0.0.1:7443";
    charter.coordinator.tls_name = "127.0.0.1";
    charter.coordinator.spki =
        crypto::Certificate::FromPem(Slurp(root / "coordinator/coordinator/cert.pem"))->spki();
    for (const std::string& j : kJurisdictions) {
      policy::RegionInitOptions region;
      region.jurisdiction = j;
      EXPECT_OK(policy::InitRegion(root / j, region, clock_.Now(), random_));
      charter.members.push_back({j, "some law", Slurp(root / j / "ca/root.pem")});
    }
    for (const auto kind : {policy::ArtefactKind::kDelta, policy::ArtefactKind::kMetrics}) {
      charter.flows.push_back({kind, "*", "*", policy::LegalBasis::kConsent});
    }
    for (const char* j : {"de", "es", "fr", "gb"}) {
      charter.flows.push_back({policy::ArtefactKind::kAdapter, "neutral", j, policy::LegalBasis::kConsent});
    }
    if (!adapters_to_es) std::erase_if(charter.flows, [](const auto& flow) { return flow.to == "es"; });
    std::string text = policy::CharterText(charter);
    for (const std::string& j : kJurisdictions) {
      auto key = crypto::SigningKey::FromPem(AsBytes(Slurp(root / j / "ca/root.key")));
      auto next = policy::SignCharterFile(text, "charter", j, *key);
      EXPECT_OK(next);
      text = *next;
    }
    EXPECT_OK(WriteFileAtomically(root / "charter.yaml", text));
    signed_ = *policy::ParseSignedCharter(text, "charter.yaml");
  }

  policy::CoordinatorConfig Config() const {
    policy::CoordinatorConfig config;
    config.listen = "127.0.0.1:0";
    config.state = root_ / "state";
    config.charter = {root_ / "charter.yaml", signed_.hash};
    config.certificate = root_ / "coordinator/coordinator/cert.pem";
    config.key = root_ / "coordinator/coordinator/key.pem";
    config.limits = {16, 100, uint64_t{1} << 28, uint64_t{1} << 36, 90'000};
    return config;
  }
  tls::Identity IdentityOf(const std::string& jurisdiction, const std::string& role) const {
    return {Slurp(root_ / jurisdiction / role / "cert.pem"), Slurp(root_ / jurisdiction / role / "key.pem")};
  }
  std::shared_ptr<grpc::Channel> Dial(const std::string& address, const tls::Identity& identity) const {
    const auto& c = signed_.charter.coordinator;
    // Windows that do not grow: what nobody reads stays with the server.
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return grpc::CreateCustomChannel(
        address, tls::ClientCredentials(identity, {c.root_pem, c.id, c.key_hash()}, clock_), args);
  }

  std::filesystem::path root_;
  SystemClock clock_;
  OsRandom random_;
  policy::SignedCharter signed_;
};

/// One region: answers everything by the book. Its vector is `value` in every element.
class Region {
 public:
  Region(const Treaty& treaty, const std::string& address, std::string jurisdiction, uint32_t value)
      : treaty_(treaty),
        jurisdiction_(std::move(jurisdiction)),
        value_(value),
        identity_(treaty.IdentityOf(jurisdiction_, "worker")),
        key_(*crypto::SigningKey::FromPem(AsBytes(identity_.private_key))),
        peers_(treaty.signed_.charter),
        coordinator_(*crypto::VerifyKey::FromSpki(treaty.signed_.charter.coordinator.spki)),
        stub_(pb::Federation::NewStub(treaty.Dial(address, identity_))) {}
  ~Region() { Stop(); }

  void Start() {
    stream_ = stub_->Session(&context_);
    pb::WorkerMessage hello;
    hello.mutable_hello()->set_protocol(protocol_);
    hello.mutable_hello()->set_version(version_);
    hello.mutable_hello()->set_charter(wire::BytesOf(treaty_.signed_.hash));
    stream_->Write(hello);
    thread_ = std::thread([this] {
      pb::CoordinatorMessage message;
      while (stream_->Read(&message)) On(message);
      status_ = stream_->Finish();
    });
  }
  void Stop() {
    context_.TryCancel();
    if (thread_.joinable()) thread_.join();
  }
  grpc::Status Join() {
    thread_.join();
    return status_;
  }

  bool die_before_upload_ = false;
  bool stops_halfway_ = false;      // after half of its chunks
  std::promise<uint64_t> halfway_;  // told how much that was
  AttemptId attempt_;               // that it stopped in
  bool wrong_length_ = false;       // first tries uploads that are too long and too short
  uint32_t protocol_ = kProtocolVersion;
  std::string version_ = "0.1.0";
  std::vector<Digest> sums_;
  std::vector<std::string> errors_;
  std::unique_ptr<pb::Federation::Stub>& stub() { return stub_; }

 private:
  void On(const pb::CoordinatorMessage& m) {
    const Instant now = treaty_.clock_.Now();
    if (m.has_job_notice()) {
      job_ = *policy::ParseJob(m.job_notice().job_file(), "job");
      const auto submitter =
          policy::CheckPeer(treaty_.signed_.charter, m.job_notice().submitter_chain(), now);
      pb::WorkerMessage answer;
      answer.mutable_job_answer()->set_job(
          wire::BytesOf(policy::JobIdOf(m.job_notice().job_file(), submitter->id)));
      answer.mutable_job_answer()->set_verdict(pb::JobAnswer::ELIGIBLE);
      stream_->Write(answer);
    } else if (m.has_offer()) {
      auto offer = wire::FromProto(m.offer());
      secagg::WorkerBounds bounds;
      bounds.id = offer->body.id;
      bounds.charter = treaty_.signed_.hash;
      bounds.base_model = offer->body.base_model;
      bounds.adapter = offer->body.adapter;
      bounds.elements = *policy::MaskedElements(job_);
      for (const std::string& j : kJurisdictions) bounds.jurisdictions.insert(j);
      round_ = std::make_unique<secagg::WorkerRound>(*SpiffeId::Make(jurisdiction_, Role::kWorker, "site"),
                                                     key_, peers_, coordinator_, random_, bounds, Digest{});
      Reply(round_->OnOffer(*offer, now));
    } else if (m.has_keys()) {
      Reply(round_->OnKeys(*wire::FromProto(m.keys()), now));
    } else if (m.has_delivery()) {
      Reply(round_->OnDelivery(*wire::FromProto(m.delivery()), now));
      if (die_before_upload_) {
        context_.TryCancel();
      } else {
        Upload(wire::FromProto(m.delivery())->body.id, now);
      }
    } else if (m.has_survivors()) {
      Reply(round_->OnSurvivors(*wire::FromProto(m.survivors()), now));
    } else if (m.has_agreement_bundle()) {
      Reply(round_->OnAgreementBundle(*wire::FromProto(m.agreement_bundle()), now));
    } else if (m.has_result()) {
      const auto result = wire::FromProto(m.result());
      if (const auto fx = round_->OnResult(*result, now); !fx.ok()) errors_.push_back(fx.status().ToString());
      sums_.push_back(result->body.sum_sha256);
      pb::WorkerMessage ack;
      wire::ToProto(result->body.id, ack.mutable_result_ack()->mutable_id());
      ack.mutable_result_ack()->set_new_adapter(wire::BytesOf(result->body.new_adapter));
      stream_->Write(ack);
    }
  }

  void Reply(StatusOr<secagg::WorkerEffects> fx) {
    if (!fx.ok()) {
      errors_.push_back(fx.status().ToString());
      return;
    }
    if (!fx->send) return;
    pb::WorkerMessage out;
    std::visit(
        [&out](const auto& m) {
          using T = std::decay_t<decltype(m.body)>;
          if constexpr (std::is_same_v<T, secagg::Advert>) wire::ToProto(m, out.mutable_advert());
          if constexpr (std::is_same_v<T, secagg::Shares>) wire::ToProto(m, out.mutable_shares());
          if constexpr (std::is_same_v<T, secagg::Complaint>) wire::ToProto(m, out.mutable_complaint());
          if constexpr (std::is_same_v<T, secagg::InputHeader>) wire::ToProto(m, out.mutable_input_header());
          if constexpr (std::is_same_v<T, secagg::Agreement>) wire::ToProto(m, out.mutable_agreement());
          if constexpr (std::is_same_v<T, secagg::Unmask>) wire::ToProto(m, out.mutable_unmask());
        },
        *fx->send);
    stream_->Write(out);
  }

  void Upload(const AttemptId& id, Instant now) {
    (void)round_->BeginInput(now);
    std::vector<uint32_t> y(*policy::MaskedElements(job_), value_);
    const auto masks = *round_->TakeMasks();
    secagg::MaskStream(masks).Apply(0, y);
    Bytes scratch;
    const ByteView bytes = WireBytes(y, job_.privacy.modulus_bits, scratch);
    if (wrong_length_ && !Refused(id, bytes)) errors_.push_back("an upload of another length was taken");
    for (size_t at = 0; at < bytes.size();) {
      if (stops_halfway_ && at >= bytes.size() / 2) {
        attempt_ = id;
        return halfway_.set_value(at);
      }
      const size_t n = std::min<size_t>(1000, bytes.size() - at);
      grpc::ClientContext context;
      pb::PutChunkRequest chunk;
      wire::ToProto(id, chunk.mutable_id());
      chunk.set_offset(at);
      chunk.set_total(bytes.size());
      chunk.set_data(bytes.data() + at, n);
      chunk.set_sha256(wire::BytesOf(crypto::Sha256(bytes.subspan(at, n))));
      pb::PutChunkReply reply;
      if (const auto status = stub_->PutChunk(&context, chunk, &reply); !status.ok()) {
        // The test has ended the server: before the call, or during it.
        if (status.error_code() != grpc::StatusCode::UNAVAILABLE &&
            status.error_code() != grpc::StatusCode::CANCELLED)
          errors_.push_back(status.error_message());
        return;
      }
      at = reply.stored();
    }
    Reply(round_->OnInput(y.size(), crypto::Sha256(bytes), now));
  }

  /// Chunks of vectors of other lengths: a word more or less, and the same words in the other size.
  bool Refused(const AttemptId& id, ByteView bytes) {
    const uint64_t words = bytes.size() / WordBytes(job_.privacy.modulus_bits);
    for (const uint64_t total : {words * 4, words * 3, words * 3 + 3, words * 3 - 3, words * 3 + 1}) {
      if (total == bytes.size()) continue;
      grpc::ClientContext context;
      pb::PutChunkRequest chunk;
      wire::ToProto(id, chunk.mutable_id());
      chunk.set_total(total);
      chunk.set_data(bytes.data(), 300);
      chunk.set_sha256(wire::BytesOf(crypto::Sha256(bytes.first(300))));
      pb::PutChunkReply reply;
      if (stub_->PutChunk(&context, chunk, &reply).error_code() != grpc::StatusCode::INVALID_ARGUMENT)
        return false;
    }
    return true;
  }

  const Treaty& treaty_;
  const std::string jurisdiction_;
  const uint32_t value_;
  const tls::Identity identity_;
  const crypto::SigningKey key_;
  const policy::CharterPeerVerifier peers_;
  const crypto::VerifyKey coordinator_;
  OsRandom random_;
  std::unique_ptr<pb::Federation::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::CoordinatorMessage>> stream_;
  policy::JobSpec job_;
  std::unique_ptr<secagg::WorkerRound> round_;
  grpc::Status status_;
  std::thread thread_;
};

class ServerTest : public ::testing::Test {
 protected:
  void StartServer() { StartServer(treaty_.Config()); }
  void StartServer(const policy::CoordinatorConfig& config) {
    auto server = Server::Start(config, [] { abort(); });
    ASSERT_OK(server);
    server_ = std::move(*server);
    jobs_ = pb::Jobs::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("de", "operator")));
  }
  Region& Join(const std::string& jurisdiction, uint32_t value) {
    regions_.push_back(std::make_unique<Region>(treaty_, server_->address(), jurisdiction, value));
    return *regions_.back();
  }
  pb::SubmitRequest Signed(const std::string& file) {
    const tls::Identity identity = treaty_.IdentityOf("de", "operator");
    const auto key = crypto::SigningKey::FromPem(AsBytes(identity.private_key));
    const policy::SignedJob job = policy::SignJob(file, *key, identity.certificate_chain);
    pb::SubmitRequest request;
    request.set_job_file(job.file);
    request.set_signature(job.signature.data(), job.signature.size());
    request.set_submitter_chain(job.submitter_chain);
    return request;
  }
  std::string Submit(uint32_t rounds, std::string_view jurisdictions, uint32_t modulus_bits = kPlainBits) {
    grpc::ClientContext context;
    pb::SubmitReply reply;
    const auto status = jobs_->Submit(
        &context, Signed(JobYaml(treaty_.signed_.hash, rounds, jurisdictions, modulus_bits)), &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.job();
  }
  /// Reads states until `enough`, and returns the last.
  pb::JobState Watch(const std::string& job, const std::function<bool(const pb::JobState&)>& enough) {
    grpc::ClientContext context;
    pb::WatchRequest request;
    request.set_job(job);
    auto reader = jobs_->Watch(&context, request);
    pb::JobState state;
    while (reader->Read(&state) && !enough(state)) {
    }
    context.TryCancel();
    (void)reader->Finish();
    return state;
  }
  pb::JobState WatchToEnd(const std::string& job) {
    return Watch(job, [](const pb::JobState&) { return false; });
  }
  Bytes Fetch(const std::string& sha256) {
    grpc::ClientContext context;
    pb::FetchRequest request;
    request.set_sha256(sha256);
    auto reader = jobs_->Fetch(&context, request);
    Bytes out;
    pb::FetchChunk chunk;
    while (reader->Read(&chunk)) {
      EXPECT_EQ(chunk.offset(), out.size());
      out.insert(out.end(), chunk.data().begin(), chunk.data().end());
    }
    const auto status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return out;
  }

  TempDir dir_;
  Treaty treaty_{dir_.path()};
  std::unique_ptr<Server> server_;
  std::unique_ptr<pb::Jobs::Stub> jobs_;
  std::vector<std::unique_ptr<Region>> regions_;
  void TearDown() override {
    for (auto& region : regions_) region->Stop();
    for (auto& region : regions_) EXPECT_THAT(region->errors_, ::testing::IsEmpty());
  }
};

TEST_F(ServerTest, SumsMaskedVectorsOfThreeRegionsExactlyAndMakesTheAdapterThatFollows) {
  StartServer();
  for (const auto& [j, value] : {std::pair{"de", 3u}, {"es", 50u}, {"fr", 0xffffffffu}})
    Join(j, value).Start();
  const std::string job = Submit(2, "de, es, fr");
  const pb::JobState state = WatchToEnd(job);
  ASSERT_EQ(state.state(), pb::JobState::DONE) << state.failure_text();
  ASSERT_EQ(state.rounds_size(), 2);

  const auto spec = *policy::ParseJob(JobYaml(treaty_.signed_.hash, 2, "de, es, fr"), "job");
  const auto layout = *AdapterLayout::Make(spec.base_model.shape, spec.adapter);
  const uint64_t elements = *policy::MaskedElements(spec);
  const std::vector<uint32_t> expected(elements, 52);  // 3 + 50 − 1 mod 2^32
  const Bytes sum = Fetch(state.rounds(0).sum_sha256());
  EXPECT_EQ(sum, Bytes(reinterpret_cast<const uint8_t*>(expected.data()),
                       reinterpret_cast<const uint8_t*>(expected.data() + elements)));

  // The chain: initial adapter from the seed, and each next one from its round's sum.
  AdapterBlob blob = *FirstAdapter(layout, *wire::DigestFrom(job, "job"), spec.seed);
  Digest parent = AdapterHash(EncodeAdapterBlob(blob));
  const auto decoded = *Decode(*policy::EncodingFor(spec, 3), expected, 3);
  for (const auto& round : state.rounds()) {
    EXPECT_EQ(round.parent(), wire::BytesOf(parent));
    blob = *NextAdapter(layout, blob, parent, decoded.mean_delta, spec.server.learning_rate);
    parent = AdapterHash(EncodeAdapterBlob(blob));
    EXPECT_EQ(round.adapter(), wire::BytesOf(parent));
    EXPECT_EQ(Fetch(round.adapter()), EncodeAdapterBlob(blob));
    EXPECT_EQ(round.survivors_size(), 3);
    EXPECT_GT(round.bytes_up(), 3 * 4 * elements);
    EXPECT_DOUBLE_EQ(round.mean_loss(), decoded.metric_sums[0] / 3);
    EXPECT_TRUE(std::isinf(round.epsilon_local()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "state/spool"));
}

TEST_F(ServerTest, SumsPackedVectorsAndUndoesTheAttemptsRotation) {
  StartServer();
  for (const auto& [j, value] : {std::pair{"de", 3u}, {"es", 50u}, {"fr", 0xffffffffu}}) {
    Region& region = Join(j, value);
    region.wrong_length_ = true;
    region.Start();
  }
  const std::string job = Submit(2, "de, es, fr", kPackedBits);
  const pb::JobState state = WatchToEnd(job);
  ASSERT_EQ(state.state(), pb::JobState::DONE) << state.failure_text();
  ASSERT_EQ(state.rounds_size(), 2);

  const auto spec = *policy::ParseJob(JobYaml(treaty_.signed_.hash, 2, "de, es, fr", kPackedBits), "job");
  const auto layout = *AdapterLayout::Make(spec.base_model.shape, spec.adapter);
  const uint64_t elements = *policy::MaskedElements(spec);
  const std::vector<uint32_t> sum(elements, 52);  // 3 + 50 − 1 mod 2^24
  Bytes packed(3 * elements);
  PackWords(sum, kPackedBits, packed);

  AdapterBlob blob = *FirstAdapter(layout, *wire::DigestFrom(job, "job"), spec.seed);
  Digest parent = AdapterHash(EncodeAdapterBlob(blob));
  for (const auto& round : state.rounds()) {
    EXPECT_EQ(Fetch(round.sum_sha256()), packed);
    EncodingConfig config = policy::EncodingFor(spec, 3)->config();
    config.rotation = RotationSeed({*wire::DigestFrom(job, "job"), round.round(), round.attempt()});
    const auto decoded = *Decode(*EncodingPlan::Make(config), sum, 3);
    blob = *NextAdapter(layout, blob, parent, decoded.mean_delta, spec.server.learning_rate);
    parent = AdapterHash(EncodeAdapterBlob(blob));
    EXPECT_EQ(round.adapter(), wire::BytesOf(parent));
    EXPECT_DOUBLE_EQ(round.mean_loss(), decoded.metric_sums[0] / 3);
    EXPECT_GT(round.bytes_up(), 3 * 3 * elements);
  }
}

TEST_F(ServerTest, CompletesARoundWithoutARegionThatVanishedAndNamesIt) {
  StartServer();
  for (const auto& [j, value] : {std::pair{"de", 1u}, {"es", 2u}, {"fr", 4u}}) Join(j, value).Start();
  Region& gb = Join("gb", 8);
  gb.die_before_upload_ = true;
  gb.Start();
  const std::string job = Submit(1, "de, es, fr, gb");
  const pb::JobState state = WatchToEnd(job);
  ASSERT_EQ(state.state(), pb::JobState::DONE) << state.failure_text();
  EXPECT_THAT(state.rounds(0).missing(), ::testing::ElementsAre("spiffe://gb/worker/site"));
  const Bytes sum = Fetch(state.rounds(0).sum_sha256());
  EXPECT_EQ(Bytes(sum.begin(), sum.begin() + 4), (Bytes{7, 0, 0, 0}));
}

TEST_F(ServerTest, GoesOnWithItsJobsAfterARestart) {
  StartServer();
  Join("de", 1).Start();
  Join("es", 2).Start();
  const std::string job = Submit(2, "de, es, fr");
  regions_.clear();
  server_.reset();
  StartServer();
  for (const auto& [j, value] : {std::pair{"de", 1u}, {"es", 2u}, {"fr", 4u}}) Join(j, value).Start();
  const pb::JobState state = WatchToEnd(job);
  EXPECT_EQ(state.state(), pb::JobState::DONE) << state.failure_text();
  EXPECT_EQ(state.rounds_size(), 2);
  server_.reset();
  StartServer();  // and what is done is still known
  EXPECT_EQ(WatchToEnd(job).rounds_size(), 2);
}

TEST_F(ServerTest, AnUploadGoesOnWhereItWasAfterARestartOfTheCoordinator) {
  StartServer();
  Join("de", 1).Start();
  Join("es", 2).Start();
  Region& fr = Join("fr", 4);
  fr.stops_halfway_ = true;
  fr.Start();
  Submit(1, "de, es, fr");
  auto halfway = fr.halfway_.get_future();
  ASSERT_EQ(halfway.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  const uint64_t stored = halfway.get();
  ASSERT_GT(stored, 0u);
  server_.reset();
  StartServer();
  auto stub = pb::Federation::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("fr", "worker")));
  grpc::ClientContext context;
  pb::UploadStateRequest request;
  wire::ToProto(fr.attempt_, request.mutable_id());
  pb::PutChunkReply reply;
  const grpc::Status status = stub->UploadState(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.chunks(), 24u) << "the share of one of four members";
  EXPECT_EQ(reply.stored(), stored) << "none of it is sent again";
}

TEST_F(ServerTest, AJobNeedsRoomForTheAdapterOfEveryRound) {
  policy::CoordinatorConfig config = treaty_.Config();
  config.limits.max_state_bytes = 512 << 10;  // 73 adapters of 7 KB
  StartServer(config);
  grpc::ClientContext context;
  pb::SubmitReply reply;
  const auto status =
      jobs_->Submit(&context, Signed(JobYaml(treaty_.signed_.hash, 100, "de, es, fr")), &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_NE(status.error_message().find("with the job's 101 adapters"), std::string::npos)
      << status.error_message();
  Submit(2, "de, es, fr");
}

TEST_F(ServerTest, SubmittingTheSameFileAgainChangesNothing) {
  StartServer();
  const std::string job = Submit(2, "de, es, fr");
  grpc::ClientContext context;
  pb::SubmitReply reply;
  ASSERT_TRUE(jobs_->Submit(&context, Signed(JobYaml(treaty_.signed_.hash, 2, "de, es, fr")), &reply).ok());
  EXPECT_TRUE(reply.existed());
  EXPECT_EQ(reply.job(), job);
}

TEST_F(ServerTest, RefusesAJobWhoseBytesWereChangedAfterSigning) {
  StartServer();
  pb::SubmitRequest request = Signed(JobYaml(treaty_.signed_.hash, 2, "de, es, fr"));
  request.set_job_file(JobYaml(treaty_.signed_.hash, 9, "de, es, fr"));
  grpc::ClientContext context;
  pb::SubmitReply reply;
  EXPECT_EQ(jobs_->Submit(&context, request, &reply).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(ServerTest, RefusesAnotherProtocolNamingBoth) {
  StartServer();
  Region& region = Join("de", 1);
  region.protocol_ = 99;
  region.Start();
  const grpc::Status status = region.Join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("(0.1.0) speaks 1, the worker (0.1.0) speaks 99"));
}

TEST_F(ServerTest, APreflightsQuestionIsLoggedInPlainWordsAndIsNoWarning) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  StartServer();
  const auto worker =
      pb::Federation::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("de", "worker")));
  grpc::ClientContext context;
  const auto stream = worker->Session(&context);
  pb::WorkerMessage hello;
  hello.mutable_hello()->set_protocol(kProtocolVersion);
  hello.mutable_hello()->set_version(std::string(kVersion));
  hello.mutable_hello()->set_charter(std::string(32, '\0'));
  stream->Write(hello);
  pb::CoordinatorMessage message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  server_.reset();
  spdlog::set_default_logger(before);
  EXPECT_THAT(log.str(), ::testing::HasSubstr("[info] de/site: asked whether this coordinator answers"));
  EXPECT_THAT(log.str(), ::testing::Not(::testing::HasSubstr("warning")));
}

TEST_F(ServerTest, ASecondSessionOfOneWorkerReplacesTheFirst) {
  StartServer();
  Region& first = Join("de", 1);
  first.Start();
  Watch(Submit(1, "de, es, fr"), [](const pb::JobState& s) { return s.regions(0).connected(); });
  Join("de", 1).Start();
  EXPECT_THAT(first.Join().error_message(), ::testing::HasSubstr("another session of de/site"));
}

TEST_F(ServerTest, AnOperatorIsNoWorkerAndAWorkerNoOperator) {
  StartServer();
  const auto as_worker =
      pb::Jobs::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("fr", "worker")));
  grpc::ClientContext context;
  pb::StatusReply reply;
  EXPECT_EQ(as_worker->Status(&context, {}, &reply).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  const auto as_operator =
      pb::Federation::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("fr", "operator")));
  grpc::ClientContext context2;
  auto stream = as_operator->Session(&context2);
  pb::CoordinatorMessage message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(ServerTest, AChunkThatNobodyAskedForNeverReachesTheDisk) {
  StartServer();
  Region& region = Join("de", 1);
  grpc::ClientContext context;
  pb::PutChunkRequest chunk;
  wire::ToProto(AttemptId{crypto::Sha256(AsBytes("j")), 0, 0}, chunk.mutable_id());
  chunk.set_total(4);
  chunk.set_data("abcd");
  chunk.set_sha256(wire::BytesOf(crypto::Sha256(AsBytes("abcd"))));
  pb::PutChunkReply reply;
  EXPECT_EQ(region.stub()->PutChunk(&context, chunk, &reply).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "state/spool"));
  grpc::ClientContext context2;
  chunk.set_data("abce");
  EXPECT_EQ(region.stub()->PutChunk(&context2, chunk, &reply).error_code(), grpc::StatusCode::DATA_LOSS);
}

TEST_F(ServerTest, APlanShowsEveryRegionAndRegistersNothing) {
  StartServer();
  for (const auto& [j, value] : {std::pair{"de", 1u}, {"es", 2u}, {"fr", 4u}}) Join(j, value).Start();
  pb::StatusReply status;
  while (status.connected_size() < 3) {
    grpc::ClientContext context;
    ASSERT_TRUE(jobs_->Status(&context, {}, &status).ok());
  }
  grpc::ClientContext context;
  pb::PlanReply plan;
  const auto done = jobs_->Plan(&context, Signed(JobYaml(treaty_.signed_.hash, 2, "de, es, fr, gb")), &plan);
  ASSERT_TRUE(done.ok()) << done.error_message();
  EXPECT_TRUE(plan.can_start());
  ASSERT_EQ(plan.regions_size(), 4);
  EXPECT_EQ(plan.regions(3).worker(), "spiffe://gb");
  grpc::ClientContext context2;
  pb::ListJobsReply list;
  ASSERT_TRUE(jobs_->ListJobs(&context2, {}, &list).ok());
  EXPECT_EQ(list.jobs_size(), 0);
}

TEST_F(ServerTest, OnlyTheSubmittersJurisdictionCancels) {
  StartServer();
  const std::string job = Submit(2, "de, es, fr");
  const auto french =
      pb::Jobs::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("fr", "operator")));
  pb::CancelRequest request;
  request.set_job(job);
  pb::JobState state;
  grpc::ClientContext context;
  EXPECT_EQ(french->Cancel(&context, request, &state).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  grpc::ClientContext context2;
  ASSERT_TRUE(jobs_->Cancel(&context2, request, &state).ok());
  EXPECT_EQ(state.state(), pb::JobState::CANCELLED);
}

TEST_F(ServerTest, PausesWhileTheDiskIsFullAndGoesOnWhenItIsNot) {
  StartServer();
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  // Room for the first adapter, which is a file of its own, not for another record of the journal.
  const rlimit full{std::filesystem::file_size(dir_ / "state/journal.sqlite-wal") + 10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const pb::SubmitRequest request = Signed(JobYaml(treaty_.signed_.hash, 1, "de, es, fr"));
  pb::SubmitReply reply;
  grpc::ClientContext context;
  const grpc::Status refused = jobs_->Submit(&context, request, &reply);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(refused.error_message().find("disk is full"), std::string::npos) << refused.error_message();
  for (const auto& [j, value] : {std::pair{"de", 1u}, {"es", 2u}, {"fr", 4u}}) Join(j, value).Start();
  grpc::Status again;
  do {
    grpc::ClientContext next;
    again = jobs_->Submit(&next, request, &reply);
  } while (again.error_code() == grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(again.ok()) << again.error_message();
  EXPECT_EQ(WatchToEnd(reply.job()).state(), pb::JobState::DONE);
}

TEST_F(ServerTest, AVersionThatWouldForgeALogLineIsRefused) {
  StartServer();
  for (const char* bad : {"0.1.0\n[critical] stop", "0.1.0 \x1b[2J", "0.1.0 beta", "\xc3\xa9"}) {
    Region& region = Join("de", 1);
    region.version_ = bad;
    region.Start();
    const grpc::Status status = region.Join();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << bad;
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr("hello.version"));
  }
}

TEST_F(ServerTest, AnAdapterGoesOnlyToThoseWhomItsJobInvitesAndTheCharterNames) {
  StartServer();
  const std::string job = Submit(2, "de, es, fr");
  pb::RoundsRequest ask;
  ask.set_job(job);
  pb::RoundsReply rounds;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->Rounds(&context, ask, &rounds).ok());
  EXPECT_EQ(rounds.total(), 0u);
  EXPECT_FALSE(Fetch(rounds.initial_adapter()).empty());
  const auto gb = pb::Jobs::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("gb", "operator")));
  grpc::ClientContext context2;
  const grpc::Status no_rounds = gb->Rounds(&context2, ask, &rounds);
  EXPECT_EQ(no_rounds.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(no_rounds.error_message(), ::testing::HasSubstr("does not invite gb"));
  grpc::ClientContext context3;
  pb::FetchRequest fetch;
  fetch.set_sha256(rounds.initial_adapter());
  pb::FetchChunk chunk;
  const auto fetched = gb->Fetch(&context3, fetch);
  EXPECT_FALSE(fetched->Read(&chunk));
  EXPECT_EQ(fetched->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  for (const auto& [j, code] :
       {std::pair{"gb", grpc::StatusCode::PERMISSION_DENIED}, {"fr", grpc::StatusCode::OK}}) {
    grpc::ClientContext context4;
    pb::GetBlobRequest get;
    get.set_sha256(rounds.initial_adapter());
    pb::BlobChunk piece;
    const auto got = Join(j, 1).stub()->GetBlob(&context4, get);
    while (got->Read(&piece)) {
    }
    EXPECT_EQ(got->Finish().error_code(), code) << j;
  }
}

TEST_F(ServerTest, WithoutAFlowOfAdaptersNoneGoThere) {
  std::filesystem::create_directory(dir_ / "other");
  const Treaty treaty(dir_ / "other", false);
  auto server = Server::Start(treaty.Config(), [] { abort(); });
  ASSERT_OK(server);
  const auto es = pb::Jobs::NewStub(treaty.Dial((*server)->address(), treaty.IdentityOf("es", "operator")));
  grpc::ClientContext context;
  pb::FetchRequest fetch;
  fetch.set_sha256(wire::BytesOf(crypto::Sha256(AsBytes("any"))));
  pb::FetchChunk chunk;
  const auto fetched = es->Fetch(&context, fetch);
  EXPECT_FALSE(fetched->Read(&chunk));
  const grpc::Status status = fetched->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("no flow of adapters from neutral to es"));
}

TEST_F(ServerTest, WhatIsNotThereIsSaidWithoutAPath) {
  StartServer();
  const std::string job = Submit(2, "de, es, fr");
  pb::RoundsRequest ask;
  ask.set_job(job);
  pb::RoundsReply rounds;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->Rounds(&context, ask, &rounds).ok());
  std::filesystem::remove_all(dir_ / "state/blobs");
  grpc::ClientContext context2;
  pb::FetchRequest fetch;
  fetch.set_sha256(rounds.initial_adapter());
  pb::FetchChunk chunk;
  const auto fetched = jobs_->Fetch(&context2, fetch);
  EXPECT_FALSE(fetched->Read(&chunk));
  const grpc::Status status = fetched->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message().find('/'), std::string::npos) << status.error_message();
}

TEST_F(ServerTest, ARefusedOrCancelledJobLeavesNothingOnDisk) {
  StartServer();
  const auto blobs = [this] {
    size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "state/blobs"))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  };
  std::vector<std::string> mine;
  for (uint32_t rounds = 1; rounds <= 4; ++rounds) mine.push_back(Submit(rounds, "de, es, fr"));
  EXPECT_EQ(blobs(), 4u);
  grpc::ClientContext context;
  pb::SubmitReply reply;
  const auto refused =
      jobs_->Submit(&context, Signed(JobYaml(treaty_.signed_.hash, 5, "de, es, fr")), &reply);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), ::testing::HasSubstr("4 jobs of de"));
  EXPECT_EQ(blobs(), 4u);
  grpc::ClientContext context2;
  pb::CancelRequest cancel;
  cancel.set_job(mine[0]);
  pb::JobState state;
  ASSERT_TRUE(jobs_->Cancel(&context2, cancel, &state).ok());
  EXPECT_EQ(blobs(), 3u);

  // Pages: those registered before the third.
  pb::ListJobsRequest list;
  list.set_before(mine[2]);
  pb::ListJobsReply page;
  grpc::ClientContext context3;
  ASSERT_TRUE(jobs_->ListJobs(&context3, list, &page).ok());
  ASSERT_EQ(page.jobs_size(), 2);
  EXPECT_EQ(page.jobs(0).job(), mine[0]);
  EXPECT_FALSE(page.earlier());
  list.set_before(std::string(32, 'x'));
  grpc::ClientContext context4;
  EXPECT_EQ(jobs_->ListJobs(&context4, list, &page).error_code(), grpc::StatusCode::NOT_FOUND);

  // What a crash left between an adapter and its record goes at the next start.
  server_.reset();
  std::ofstream(dir_ / "state/blobs/left-over") << "x";
  StartServer();
  EXPECT_EQ(blobs(), 3u);
}

TEST_F(ServerTest, OneKeysDownloadsThatNobodyReadsAreAFewOfAllThreads) {
  StartServer();
  std::string yaml = JobYaml(treaty_.signed_.hash, 1, "de, es, fr");
  const std::string small = "layers: 2, hidden: 64, intermediate: 128, heads: 4, kv_heads: 2, head_dim: 16";
  yaml.replace(yaml.find(small), small.size(),
               "layers: 8, hidden: 4096, intermediate: 4096, heads: 16, kv_heads: 2, head_dim: 256");
  yaml.replace(yaml.find("rank: 4, alpha: 8"), 17, "rank: 64, alpha: 8");
  pb::SubmitReply reply;
  grpc::ClientContext submit;
  const auto submitted = jobs_->Submit(&submit, Signed(yaml), &reply);
  ASSERT_TRUE(submitted.ok()) << submitted.error_message();
  pb::RoundsRequest ask;
  ask.set_job(reply.job());
  pb::RoundsReply rounds;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->Rounds(&context, ask, &rounds).ok());
  pb::GetBlobRequest get;
  get.set_sha256(rounds.initial_adapter());
  Region& es = Join("es", 1);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<pb::BlobChunk>>> streams;
  int served = 0, refused = 0;
  pb::BlobChunk chunk;
  for (int i = 0; i < 40; ++i) {
    auto each = std::make_unique<grpc::ClientContext>();
    auto stream = es.stub()->GetBlob(each.get(), get);
    if (stream->Read(&chunk)) {
      ++served;  // 26 MB are left, no window is as long: the server waits
      contexts.push_back(std::move(each));
      streams.push_back(std::move(stream));
      continue;
    }
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr("at most 28 and 56"));
    ++refused;
  }
  EXPECT_EQ(served, 28);
  EXPECT_EQ(refused, 12);
  grpc::ClientContext other;
  pb::StatusReply status;
  EXPECT_TRUE(jobs_->Status(&other, {}, &status).ok());
  for (auto& each : contexts) each->TryCancel();
  for (auto& each : streams) (void)each->Finish();
}

TEST_F(ServerTest, HearsPeersAgainAfterAStrangersConnectionsTookAllDescriptors) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer opens a pipe to look at an object's type, and takes a sound one for broken "
                  "when it can't";
#endif
  StartServer();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{std::min<rlim_t>(200, before.rlim_cur), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(Slurp(dir_ / "state/port"))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  {
    std::vector<FileDescriptor> flood;
    for (;;) {
      FileDescriptor next(::socket(AF_INET, SOCK_STREAM, 0));
      if (!next.valid()) break;
      ASSERT_EQ(::connect(next.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
      flood.push_back(std::move(next));
    }
    ASSERT_GT(flood.size(), 50u);
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  const auto jobs = pb::Jobs::NewStub(treaty_.Dial(server_->address(), treaty_.IdentityOf("fr", "operator")));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  pb::StatusReply reply;
  const grpc::Status status = jobs->Status(&context, {}, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(ServerTest, DoesNotStartWithAnotherKeyThanTheChartersCoordinatorHas) {
  policy::CoordinatorConfig config = treaty_.Config();
  config.key = dir_ / "de/worker/key.pem";
  EXPECT_THAT(Server::Start(config, [] {}),
              concordat::testing::HasStatus(StatusCode::kPermissionDenied, "key"));
  config.certificate = dir_ / "de/worker/cert.pem";
  EXPECT_THAT(Server::Start(config, [] {}),
              concordat::testing::HasStatus(StatusCode::kPermissionDenied, "charter's coordinator"));
}

TEST_F(ServerTest, AKeyThatOthersMayReadIsAFaultOfItsFile) {
  const policy::CoordinatorConfig config = treaty_.Config();
  std::filesystem::permissions(config.key, std::filesystem::perms(0644));
  EXPECT_THAT(Server::Start(config, [] {}),
              concordat::testing::HasStatus(StatusCode::kInvalidArgument, "chmod 600"));
}

TEST_F(ServerTest, ACertificateThatIsNoNodesIsNamedWithItsFile) {
  policy::CoordinatorConfig config = treaty_.Config();
  config.certificate = dir_ / "de/ca/root.pem";
  EXPECT_THAT(Server::Start(config, [] {}),
              concordat::testing::HasStatus(StatusCode::kPermissionDenied, "de/ca/root.pem: certificate:"));
}

}  // namespace
}  // namespace concordat::coordinator
