#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/watch_view.h"
#include "concordat/v1/region.grpc.pb.h"
#include "policy/node_config.h"
#include "policy/rules.h"
#include "proto/tls.h"

// A region's operator to the region's own worker. Nothing here crosses a border.
namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr Millis kCall{20'000};

class RegionClient {
 public:
  explicit RegionClient(const policy::WorkerConfig& config)
      : socket_(config.socket.string()),
        // The socket's folder is the gate: mode 0700, this user's. TLS would add nothing.
        stub_(
            pb::Region::NewStub(grpc::CreateChannel("unix:" + socket_, grpc::InsecureChannelCredentials()))) {
  }

  StatusOr<pb::RegionStatus> Status() {
    pb::RegionStatus reply;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCall);
    RETURN_IF_ERROR(Explain(stub_->Status(&context, pb::RegionStatusRequest(), &reply)));
    return reply;
  }
  StatusOr<std::string> Decide(const JobId& job, pb::DecideRequest::Decision decision) {
    pb::DecideRequest request;
    request.set_job(job.bytes.data(), job.bytes.size());
    request.set_decision(decision);
    pb::DecideReply reply;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCall);
    RETURN_IF_ERROR(Explain(stub_->Decide(&context, request, &reply)));
    return Printable(reply.effect());
  }

 private:
  concordat::Status Explain(const grpc::Status& status) const {
    if (status.ok()) return OkStatus();
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return Unavailable("no worker answers at {}: is concordat-worker running with this file?", socket_);
    }
    return tls::FromGrpc(status);
  }
  std::string socket_;
  std::unique_ptr<pb::Region::Stub> stub_;
};

StatusOr<JobId> FindRegionJob(const pb::RegionStatus& status, const std::string& text) {
  if (const auto full = Digest::FromHexText(text); full.ok()) return *full;
  std::vector<Digest> found;
  for (const auto& job : status.jobs()) {
    const Digest id = DigestOf(job.job());
    if (job.name() == text || (!text.empty() && id.hex().starts_with(text))) found.push_back(id);
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    return NotFound("this worker knows no job '{}': concordat status --worker FILE lists them", text);
  }
  std::string names;
  for (const Digest& id : found) names += (names.empty() ? "" : ", ") + id.brief();
  return InvalidArgument("'{}' names {} jobs: {}. Give more digits", Printable(text), found.size(), names);
}

std::string_view RegionJobStateName(pb::RegionJob::State state) {
  switch (state) {
    case pb::RegionJob::PLANNED_ONLY:
      return "planned only";
    case pb::RegionJob::RUNNING:
      return "running";
    case pb::RegionJob::ENDED:
      return "ended";
    default:
      return "unknown";
  }
}

ordered_json RegionJobJson(const pb::RegionJob& job) {
  ordered_json rules = ordered_json::array();
  for (uint32_t rule : job.rules()) rules.push_back({{"code", rule}, {"text", policy::DescribeRule(rule)}});
  return {{"job", DigestOf(job.job()).hex()},        {"name", Printable(job.name())},
          {"verdict", VerdictName(job.verdict())},   {"needs_approval", job.needs_approval()},
          {"submitter", Printable(job.submitter())}, {"rules", rules},
          {"state", RegionJobStateName(job.state())}};
}

/// A figure of the trainer's; 0 is what the worker says before there is one.
ordered_json Measured(double value) { return value > 0 ? NumberJson(value) : ordered_json(); }

ordered_json StatusJson(const pb::RegionStatus& status) {
  ordered_json jobs = ordered_json::array();
  for (const auto& job : status.jobs()) jobs.push_back(RegionJobJson(job));
  const Digest job = DigestOf(status.job());
  return {{"worker", Printable(status.worker())},
          {"connected", status.connected()},
          {"coordinator", Printable(status.coordinator())},
          {"phase", PhaseName(status.phase())},
          {"permille", status.permille()},
          {"job", job.is_zero() ? ordered_json() : ordered_json(job.hex())},
          {"round", status.round()},
          {"attempt", status.attempt()},
          {"tokens_per_second", Measured(status.tokens_per_second())},
          {"train_loss", Measured(status.train_loss())},
          {"sandbox", Printable(status.sandbox())},
          {"epsilon_spent", NumberJson(status.epsilon_spent())},
          {"epsilon_budget", NumberJson(status.epsilon_budget())},
          {"bytes_left", status.bytes_left()},
          {"last_error", Printable(status.last_error())},
          {"jobs", jobs}};
}

Status RunStatus(Context& context, const std::string& worker_file) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(const pb::RegionStatus status, RegionClient(config).Status());
  Output& out = context.output;
  out.Json(StatusJson(status));
  out.Say(fmt::format("{}  {} {}", BriefWorker(status.worker()),
                      status.connected() ? out.Paint("connected to", Output::Style::kGood)
                                         : out.Paint("not connected to", Output::Style::kWarn),
                      Printable(status.coordinator())));
  if (const Digest job = DigestOf(status.job()); !job.is_zero()) {
    out.Say(fmt::format("job {}, round {}, attempt {}: {} {}%", job.brief(), status.round() + 1,
                        status.attempt() + 1, PhaseName(status.phase()), status.permille() / 10));
    if (status.tokens_per_second() > 0) {
      out.Say(fmt::format("{:.0f} tokens/s, loss {:.4f} (this region's own; neither leaves it)",
                          status.tokens_per_second(), status.train_loss()));
    }
  } else {
    out.Say("idle");
  }
  out.Say(fmt::format(
      "epsilon {} of {}; {} left this region so far; sandbox {}", HumanEpsilon(status.epsilon_spent()),
      std::isinf(status.epsilon_budget()) ? "unlimited" : HumanEpsilon(status.epsilon_budget()),
      HumanBytes(status.bytes_left()), Printable(status.sandbox())));
  if (!status.last_error().empty()) {
    out.Say(out.Paint("last error: " + Printable(status.last_error()), Output::Style::kWarn));
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& job : status.jobs()) {
    const bool over = job.state() == pb::RegionJob::ENDED;
    rows.push_back({DigestOf(job.job()).brief(), Printable(job.name(), 63),
                    std::string(RegionJobStateName(job.state())),
                    over ? "-" : std::string(VerdictName(job.verdict())), BriefWorker(job.submitter())});
  }
  if (!rows.empty()) {
    out.Say("");
    out.Table({"job", "name", "state", "answer", "submitter"}, rows);
  }
  for (const auto& job : status.jobs()) {
    if (job.state() == pb::RegionJob::ENDED) continue;
    for (const auto& rule : DescribeRules(job.rules())) {
      out.Say(fmt::format("  {}: {}", DigestOf(job.job()).brief(), rule));
    }
    if (job.needs_approval()) {
      const std::string id = DigestOf(job.job()).brief();
      out.Say(fmt::format("  {}: read it: concordat --config operator.yaml plan {}", id, id));
      out.Say(fmt::format("  {}: then: concordat approve {} --worker {}", id, id, worker_file));
    }
  }
  return OkStatus();
}

struct DecideOptions {
  std::string job, worker;
};

Status RunDecide(Context& context, const DecideOptions& options, pb::DecideRequest::Decision decision,
                 const std::string& word) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(options.worker));
  RegionClient client(config);
  ASSIGN_OR_RETURN(const pb::RegionStatus status, client.Status());
  ASSIGN_OR_RETURN(const JobId job, FindRegionJob(status, options.job));
  ASSIGN_OR_RETURN(const std::string effect, client.Decide(job, decision));
  context.output.Json({{"job", job.hex()}, {"decision", word}, {"effect", effect}});
  // The worker's sentence names the job itself.
  context.output.Say(effect);
  return OkStatus();
}

}  // namespace

void AddDecisionVerbs(CLI::App& app, Context& context) {
  struct Verb {
    const char* name;
    const char* help;
    pb::DecideRequest::Decision decision;
  };
  static constexpr Verb kVerbs[] = {
      {"approve", "a region says yes to a job", pb::DecideRequest::APPROVE},
      {"deny", "a region says no to a job", pb::DecideRequest::DENY},
      {"pause", "a region sits out the rounds to come", pb::DecideRequest::PAUSE},
      {"resume", "a region takes part again", pb::DecideRequest::RESUME},
      {"withdraw", "a region leaves a job for good; before anything left it costs nothing",
       pb::DecideRequest::WITHDRAW},
  };
  for (const Verb& v : kVerbs) {
    auto o = std::make_shared<DecideOptions>();
    CLI::App* verb = app.add_subcommand(v.name, v.help);
    verb->footer(
        fmt::format("Example: concordat {} smollm2-manuals --worker hospital-de/worker.yaml", v.name));
    verb->add_option("job", o->job, "job id, its first digits, or its name")->required();
    verb->add_option("--worker", o->worker, "the worker's file")->required();
    verb->callback([&context, o, &v] {
      context.run = [&context, o, &v] { return RunDecide(context, *o, v.decision, v.name); };
    });
  }
  auto worker = std::make_shared<std::string>();
  CLI::App* verb =
      app.add_subcommand("status", "a region's own worker: what it does, how fast, with what loss");
  verb->footer("Example: concordat status --worker hospital-de/worker.yaml");
  verb->add_option("--worker", *worker, "the worker's file")->required();
  verb->callback(
      [&context, worker] { context.run = [&context, worker] { return RunStatus(context, *worker); }; });
}

}  // namespace concordat::cli
