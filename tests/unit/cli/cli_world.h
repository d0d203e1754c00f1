#ifndef CONCORDAT_TESTS_UNIT_CLI_CLI_WORLD_H_
#define CONCORDAT_TESTS_UNIT_CLI_CLI_WORLD_H_

#include <grpcpp/grpcpp.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "aggregation/adapter_steps.h"
#include "cli/client.h"
#include "cli/context.h"
#include "common/files.h"
#include "common/version.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::cli {

struct Ran {
  int code = 0;
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out, nullptr, false); }
};

inline Ran Cli(std::vector<std::string> words, const Surroundings& surroundings = {}, bool terminal = false) {
  words.insert(words.begin(), "concordat");
  std::vector<const char*> argv;
  for (const auto& word : words) argv.push_back(word.c_str());
  std::ostringstream out, err;
  Ran ran;
  ran.code = Main(static_cast<int>(argv.size()), argv.data(), out, err, terminal, surroundings);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

inline std::vector<std::string> Keys(const nlohmann::json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;  // sorted: nlohmann::json is a map
}

inline void Put(pb::RegionState* region, const std::string& worker, uint32_t verdict) {
  region->set_worker(worker);
  region->set_connected(true);
  region->set_verdict(verdict);
}

/// A coordinator's Jobs service with answers that a test sets.
class FakeJobs final : public pb::Jobs::Service {
 public:
  using Context = grpc::ServerContext;
  grpc::Status Status(Context*, const pb::StatusRequest*, pb::StatusReply* reply) override {
    *reply = status;
    return grpc::Status::OK;
  }
  grpc::Status Plan(Context*, const pb::SubmitRequest* request, pb::PlanReply* reply) override {
    *reply = plan;
    submitted = *request;
    reply->set_job(id.bytes.data(), 32);
    return grpc::Status::OK;
  }
  grpc::Status Submit(Context*, const pb::SubmitRequest* request, pb::SubmitReply* reply) override {
    reply->set_existed(submitted.job_file() == request->job_file());
    submitted = *request;
    reply->set_job(id.bytes.data(), 32);
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(Context*, const pb::ListJobsRequest*, pb::ListJobsReply* reply) override {
    if (!states.empty()) *reply->add_jobs() = states.back();
    return grpc::Status::OK;
  }
  grpc::Status Watch(Context*, const pb::WatchRequest*, grpc::ServerWriter<pb::JobState>* writer) override {
    ++watches;
    if (watches <= broken_watches) return {grpc::StatusCode::UNAVAILABLE, "restarting"};
    for (const auto& state : states) writer->Write(state);
    return grpc::Status::OK;
  }
  grpc::Status Rounds(Context*, const pb::RoundsRequest*, pb::RoundsReply* reply) override {
    *reply = rounds;
    return grpc::Status::OK;
  }
  grpc::Status Evaluate(Context*, const pb::EvaluateRequest*, pb::EvaluateReply* reply) override {
    *reply = evaluation;
    return grpc::Status::OK;
  }
  grpc::Status Fetch(Context*, const pb::FetchRequest* request,
                     grpc::ServerWriter<pb::FetchChunk>* writer) override {
    const auto it = blobs.find(request->sha256());
    if (it == blobs.end()) return {grpc::StatusCode::NOT_FOUND, "no such blob"};
    fetched_from.push_back(request->offset());
    for (size_t at = request->offset(); at < it->second.size(); at += 1000) {
      if (break_after > 0 && --break_after == 0) return {grpc::StatusCode::UNAVAILABLE, "cut"};
      pb::FetchChunk chunk;
      chunk.set_offset(at);
      chunk.set_total(it->second.size());
      chunk.set_data(it->second.substr(at, 1000));
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }

  JobId id;
  pb::StatusReply status;
  pb::PlanReply plan;
  pb::SubmitRequest submitted;
  std::vector<pb::JobState> states;
  pb::RoundsReply rounds;
  pb::EvaluateReply evaluation;
  std::map<std::string, std::string> blobs;
  std::vector<uint64_t> fetched_from;
  int watches = 0, broken_watches = 0, break_after = 0;
};

/// Three regions, a coordinator, a charter that all signed, a small job, and the fake service.
class CliWorld : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"de", "es", "fr"}) {
      ASSERT_EQ(Cli({"region", "init", At(name), "--jurisdiction", std::string(name) + ".example"}).code, 0);
    }
    ASSERT_EQ(
        Cli({"coordinator", "init", At("neutral"), "--jurisdiction", "ch.example", "--dns", "localhost"})
            .code,
        0);
    const auto made =
        Cli({"charter", "new", At("charter.yaml"), "--name", "manuals", "--member",
             "de.example=" + At("de/ca/root.pem"), "--member", "es.example=" + At("es/ca/root.pem"),
             "--member", "fr.example=" + At("fr/ca/root.pem"), "--coordinator", At("neutral"), "--address",
             "localhost:7443", "--json"});
    ASSERT_EQ(made.code, 0) << made.err;
    charter_ = made.json()["charter"];
    for (const char* name : {"de", "es", "fr"}) {
      ASSERT_EQ(Cli({"charter", "sign", At("charter.yaml"), "--region", At(name)}).code, 0);
    }
    std::filesystem::copy_file(dir_ / "charter.yaml", dir_ / "de/charter.yaml");
    ASSERT_EQ(Cli({"charter", "pin", At("charter.yaml"), At("de/operator.yaml"), At("de/worker.yaml")}).code,
              0);
    WriteJob();
    Serve();
  }
  void TearDown() override {
    if (server_) server_->Shutdown();
  }

  std::string At(const std::string& name) const { return (dir_ / name).string(); }

  void WriteJob() {
    ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile("configs/job.yaml"));
    text = std::regex_replace(text, std::regex("charter: [0-9a-fA-Z@]+"), "charter: " + charter_);
    text = std::regex_replace(
        text, std::regex("shape: [^\n]*"),
        "shape: {layers: 2, hidden: 16, intermediate: 32, heads: 2, kv_heads: 1, head_dim: 8}");
    job_text_ = text;
    ASSERT_OK(WriteFileAtomically(dir_ / "job.yaml", text));
    ASSERT_OK_AND_ASSIGN(self_, SpiffeId::Parse("spiffe://de.example/operator/admin"));
    service_.id = policy::JobIdOf(text, self_);
  }

  void Serve() {
    ASSERT_OK_AND_ASSIGN(const Digest charter, Digest::FromHexText(charter_));
    service_.status.set_protocol(kProtocolVersion);
    service_.status.set_version(std::string(kVersion));
    service_.status.set_charter(charter.bytes.data(), 32);
    const std::string address = "unix:" + At("s");
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    surroundings_.dial = [address](const auto&, const auto&) -> StatusOr<std::shared_ptr<grpc::Channel>> {
      return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
    };
    surroundings_.pause = [](Millis) {};
  }

  Ran Go(std::vector<std::string> words, bool terminal = false) {
    words.insert(words.begin(), {"--config", At("de/operator.yaml")});
    return Cli(std::move(words), surroundings_, terminal);
  }

  pb::JobState StateOf(pb::JobState::State what, uint32_t rounds_done) {
    pb::JobState state;
    state.set_job(service_.id.bytes.data(), 32);
    state.set_name("smollm2-manuals");
    state.set_state(what);
    state.set_rounds_done(rounds_done);
    state.set_rounds_total(3);
    state.set_submitter(self_.ToString());
    for (const char* name : {"de", "es", "fr"}) {
      Put(state.add_regions(), fmt::format("spiffe://{}.example/worker/site", name), 1);
    }
    for (const auto& round : service_.rounds.rounds()) *state.add_rounds() = round;
    return state;
  }

  /// Rounds, blobs and states of a job with `count` finished rounds: a chain that verifies.
  void MakeRounds(uint32_t count) {
    ASSERT_OK_AND_ASSIGN(const policy::JobSpec job, policy::ParseJob(job_text_, "job.yaml"));
    ASSERT_OK_AND_ASSIGN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
    ASSERT_OK_AND_ASSIGN(AdapterBlob blob, FirstAdapter(layout, service_.id, job.seed));
    Digest hash = Keep(blob);
    service_.rounds.set_job_file(job_text_);
    service_.rounds.set_initial_adapter(hash.bytes.data(), 32);
    for (uint32_t r = 0; r < count; ++r) {
      const std::vector<float> delta(layout.delta_elements(), 0.01f * static_cast<float>(r + 1));
      ASSERT_OK_AND_ASSIGN(AdapterBlob next, NextAdapter(layout, blob, hash, delta, 1.0));
      pb::RoundSummary* round = service_.rounds.add_rounds();
      round->set_round(r);
      round->set_parent(hash.bytes.data(), 32);
      hash = Keep(next);
      round->set_adapter(hash.bytes.data(), 32);
      round->add_survivors("spiffe://de.example/worker/site");
      round->add_survivors("spiffe://es.example/worker/site");
      round->add_missing("spiffe://fr.example/worker/site");
      round->set_mean_loss(2.5 - 0.25 * r);
      round->set_epsilon_local(100.0 * (r + 1));
      round->set_bytes_up(2048);
      round->set_bytes_down(4096);
      round->set_started_ms(1'790'000'000'000 + 60'000 * r);
      round->set_ended_ms(1'790'000'030'000 + 60'000 * r);
      blob = std::move(next);
    }
    service_.states = {StateOf(count < 3 ? pb::JobState::RUNNING : pb::JobState::DONE, count)};
  }

  Digest Keep(const AdapterBlob& blob) {
    const Bytes bytes = EncodeAdapterBlob(blob);
    const Digest hash = AdapterHash(bytes);
    service_.blobs[ToStringBytes(hash.view())] = ToStringBytes(bytes);
    return hash;
  }

  testing::TempDir dir_;
  std::string charter_, job_text_;
  SpiffeId self_;
  FakeJobs service_;
  std::unique_ptr<grpc::Server> server_;
  Surroundings surroundings_;
};

}  // namespace concordat::cli

#endif  // CONCORDAT_TESTS_UNIT_CLI_CLI_WORLD_H_
