#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <sstream>
#include <thread>

#include "cli/plan_view.h"
#include "cli/price.h"
#include "cli/report.h"
#include "cli/watch_view.h"
#include "common/files.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

struct JobFile {
  std::string text;
  policy::JobSpec spec;
};

/// Reads and checks a job file before anything is sent.
StatusOr<JobFile> ReadJobFile(const std::string& path) {
  JobFile file;
  ASSIGN_OR_RETURN(file.text, ReadTextFile(path, policy::kMaxJobFileBytes));
  ASSIGN_OR_RETURN(file.spec, policy::ParseJob(file.text, path));
  return file;
}

Status CheckCharter(const JobFile& file, const std::string& path, const Operator& me) {
  if (file.spec.charter == me.charter.hash) return OkStatus();
  return PermissionDenied("{} runs under charter {}, you pin {}: write charter: {} into it", path,
                          file.spec.charter.brief(), me.charter.hash.brief(), me.charter.hash.hex());
}

/// Why nothing can start as long as no region changes its mind: no protocol's cohort is smaller than three,
/// and fewer regions than that have not refused. 4 when every refusal is for want of budget alone, else 3;
/// nothing when others than the regions' own rules are what is waited for. \param regions RegionPlan or
/// RegionState, of every invited region
template <typename Regions>
std::optional<ExitCode> RefusedByRegions(const Regions& regions) {
  constexpr uint32_t kRefused = 2;  // JobAnswer.Verdict
  constexpr int kLeastCohort = 3;
  int open = 0, refused = 0;
  bool only_budget = true;
  for (const auto& region : regions) {
    if (!region.connected() || region.verdict() != kRefused) {
      ++open;
      continue;
    }
    ++refused;
    for (const uint32_t rule : region.rules())
      only_budget = only_budget && rule == static_cast<uint32_t>(policy::RuleCode::kDatasetBudget);
  }
  if (refused == 0 || open >= kLeastCohort) return std::nullopt;
  return only_budget ? ExitCode::kBudgetSpent : ExitCode::kRefused;
}

struct PlanOptions {
  std::string file;
  uint32_t wait_seconds = 10;
};

/// A job that the coordinator has, as its submitter signed it, for those who are to say yes to it.
Status ShowJob(Context& context, const std::string& text) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(text));
  ASSIGN_OR_RETURN(const pb::JobState state, client->State(job));
  ASSIGN_OR_RETURN(const pb::RoundsReply rounds, client->Rounds(job));
  ASSIGN_OR_RETURN(const policy::JobSpec spec, ReportedJob(job, state, rounds));
  const uint32_t sites = std::max(LargestRoster(rounds), static_cast<uint32_t>(state.regions_size()));
  ASSIGN_OR_RETURN(const JobPrice price, PriceOf(spec, spec.rounds, AttemptsBegun(state, rounds), sites));
  Output& out = context.output;
  out.Json({{"job", job.hex()},
            {"name", spec.name},
            {"state", JobStateName(state.state())},
            {"submitter", Printable(state.submitter())},
            {"job_file", rounds.job_file()},
            {"privacy", ToJson(price.plan)},
            {"remarks", EpsilonRemarks(spec, price.plan)}});
  out.Say(fmt::format("# job {}, {}, submitted by {}; this file has the job's id", job.hex(),
                      JobStateName(state.state()), Printable(state.submitter())));
  std::istringstream lines(rounds.job_file());
  for (std::string line; std::getline(lines, line);) out.Say(Printable(line, SIZE_MAX));
  out.Say(fmt::format("# planned epsilon after {} rounds: {}", spec.rounds,
                      HumanEpsilon(price.plan.epsilon_local)));
  for (const auto& remark : EpsilonRemarks(spec, price.plan)) out.Say("# " + remark);
  return OkStatus();
}

Status RunPlan(Context& context, const PlanOptions& options) {
  std::error_code error;
  const bool could_be_a_file =
      std::filesystem::exists(options.file, error) || options.file.find_first_of("./") != std::string::npos;
  if (!could_be_a_file) return ShowJob(context, options.file);
  ASSIGN_OR_RETURN(const JobFile file, ReadJobFile(options.file));
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  RETURN_IF_ERROR(CheckCharter(file, options.file, client->me()));
  ASSIGN_OR_RETURN(const policy::SignedJob job, client->me().Sign(file.text));
  ASSIGN_OR_RETURN(const pb::PlanReply reply, client->Plan(job, Millis(options.wait_seconds * 1000)));
  ASSIGN_OR_RETURN(const PlanView plan, MakePlanView(file.spec, policy::JobIdOf(file.text, client->me().self),
                                                     client->me().charter.charter, reply));
  context.output.Json(ToJson(plan));
  Show(plan, context.output);
  if (!plan.can_start) context.exit = RefusedByRegions(plan.regions).value_or(ExitCode::kRefused);
  return OkStatus();
}

Status RunSubmit(Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(const JobFile file, ReadJobFile(path));
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  RETURN_IF_ERROR(CheckCharter(file, path, client->me()));
  ASSIGN_OR_RETURN(const policy::SignedJob job, client->me().Sign(file.text));
  const JobId id = policy::JobIdOf(file.text, client->me().self);
  ASSIGN_OR_RETURN(const pb::SubmitReply reply, client->Submit(job));
  if (DigestOf(reply.job()) != id) {
    return DataLoss("the coordinator registered job {}, not {}", DigestOf(reply.job()).brief(), id.brief());
  }
  context.output.Json({{"job", id.hex()}, {"name", file.spec.name}, {"existed", reply.existed()}});
  context.output.Say(
      fmt::format("{} {} {}", reply.existed() ? "already there:" : "submitted", file.spec.name, id.hex()));
  context.output.Say(fmt::format("  next: concordat watch {}", id.brief()));
  return OkStatus();
}

Status RunJobs(Context& context) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const auto jobs, client->ListJobs());
  std::vector<std::vector<std::string>> rows;
  for (const auto& job : jobs) {
    context.output.Json(ToJson(job));
    const double loss = job.rounds_size() > 0 ? job.rounds(job.rounds_size() - 1).mean_loss()
                                              : std::numeric_limits<double>::quiet_NaN();
    rows.push_back({DigestOf(job.job()).brief(), Printable(job.name(), 63),
                    std::string(JobStateName(job.state())),
                    fmt::format("{}/{}", job.rounds_done(), job.rounds_total()), LossText(loss),
                    BriefWorker(job.submitter()), FormatInstant(Instant(Millis(job.submitted_ms())))});
  }
  if (rows.empty())
    context.output.Say("no jobs yet. Next: concordat plan JOB.yaml");
  else
    context.output.Table({"job", "name", "state", "rounds", "loss", "submitter", "submitted"}, rows,
                         {false, false, false, true, true});
  return OkStatus();
}

Status RunWorkers(Context& context) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ordered_json connected = ordered_json::array();
  for (const auto& worker : client->coordinator().connected()) connected.push_back(Printable(worker, 256));
  context.output.Json({{"connected", connected}});
  for (const auto& worker : connected) context.output.Say(worker.get<std::string>());
  if (connected.empty()) context.output.Say("no worker is connected");
  return OkStatus();
}

size_t TerminalColumns() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 120;
}

struct WatchOptions {
  std::string job;
  bool until_done = false;
  uint32_t patience_seconds = 300;
};

/// Shows one state in the way that fits where it goes.
class WatchScreen {
 public:
  explicit WatchScreen(Output& out) : out_(out) {}
  void Show(const pb::JobState& state) {
    out_.Json(ToJson(state));
    if (out_.json()) return;
    if (out_.terminal()) return out_.Redraw(LiveLines(state, out_, TerminalColumns()));
    for (const auto& line : plain_.Next(state)) out_.Say(line);
  }

 private:
  Output& out_;
  PlainWatch plain_;
};

void Pause(const Context& context) {
  if (context.surroundings.pause)
    context.surroundings.pause(Millis(1000));
  else
    std::this_thread::sleep_for(Millis(1000));
}

/// A coordinator that is down now is waited for as one that goes down later.
StatusOr<std::unique_ptr<Client>> ConnectPatiently(const Context& context, std::chrono::seconds patience) {
  const Instant began = context.clock().Now();
  while (true) {
    auto client = Client::Connect(context);
    const bool again = client.status().code() == StatusCode::kUnavailable;
    if (!again || context.clock().Now() - began >= patience) return client;
    Pause(context);
  }
}

Status RunWatch(Context& context, const WatchOptions& options) {
  ASSIGN_OR_RETURN(const auto client,
                   ConnectPatiently(context, std::chrono::seconds(options.patience_seconds)));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(options.job));
  WatchScreen screen(context.output);
  std::optional<pb::JobState> last;
  std::optional<ExitCode> refused;
  Instant heard = context.clock().Now();
  while (true) {
    const Status status = client->Watch(job, [&](const pb::JobState& state) {
      heard = context.clock().Now();
      screen.Show(state);
      last = state;
      refused = state.step() == 0 ? RefusedByRegions(state.regions()) : std::nullopt;
      return !HasEnded(state.state()) && !refused;
    });
    if (last && (HasEnded(last->state()) || refused)) break;
    if (!status.ok() && status.code() != StatusCode::kUnavailable) return status;
    // The stream ended before the job did: the coordinator restarts, or the network broke.
    const auto silent = context.clock().Now() - heard;
    if (silent >= std::chrono::seconds(options.patience_seconds)) {
      return status.ok() ? Unavailable("the coordinator ends the stream before the job has ended") : status;
    }
    Pause(context);
  }
  if (last->state() == pb::JobState::DONE) {
    context.output.Say(fmt::format("done. Next: concordat adapter pull {} --out DIR", job.brief()));
  } else if (!HasEnded(last->state())) {
    context.output.Say("the regions' rules refuse it: it waits until one of them changes");
    context.exit = refused;
  } else {
    context.exit = ExitCode::kFailed;
  }
  return OkStatus();
}

Status RunCancel(Context& context, const std::string& text) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(text));
  ASSIGN_OR_RETURN(const pb::JobState state, client->Cancel(job));
  context.output.Json(ToJson(state));
  context.output.Say(fmt::format("job {} {}: {} after {} of {} rounds", job.brief(),
                                 Printable(state.name(), 63), JobStateName(state.state()),
                                 state.rounds_done(), state.rounds_total()));
  return OkStatus();
}

}  // namespace

void AddJobVerbs(CLI::App& app, Context& context) {
  {
    auto o = std::make_shared<PlanOptions>();
    CLI::App* verb = app.add_subcommand("plan", "who would join, what crosses which border, what it costs");
    verb->footer(
        "Example: concordat --config operator.yaml plan job.yaml\n"
        "Example: concordat --config operator.yaml plan 3fa9c1d2    (what a region is asked to approve)");
    verb->add_option("job", o->file, "the job file; or a job that is there, by id or name: shows its file")
        ->required();
    verb->add_option("--wait", o->wait_seconds, "seconds to wait for regions' answers")
        ->check(CLI::Range(1, 600))
        ->capture_default_str();
    verb->callback([&context, o] { context.run = [&context, o] { return RunPlan(context, *o); }; });
  }
  const auto one = [&](const char* name, const char* help, const char* footer, const char* what, auto run) {
    auto text = std::make_shared<std::string>();
    CLI::App* verb = app.add_subcommand(name, help);
    verb->footer(footer);
    verb->add_option("job", *text, what)->required();
    verb->callback(
        [&context, text, run] { context.run = [&context, text, run] { return run(context, *text); }; });
  };
  one("submit", "sign a job and hand it to the coordinator; again changes nothing",
      "Example: concordat --config operator.yaml submit job.yaml", "the job file", RunSubmit);
  CLI::App* jobs = app.add_subcommand("jobs", "every job at the coordinator");
  jobs->footer("Example: concordat --config operator.yaml jobs");
  jobs->callback([&context] { context.run = [&context] { return RunJobs(context); }; });
  CLI::App* workers = app.add_subcommand("workers", "the workers that are connected to the coordinator now");
  workers->footer("Example: concordat --config operator.yaml workers");
  workers->callback([&context] { context.run = [&context] { return RunWorkers(context); }; });
  {
    auto o = std::make_shared<WatchOptions>();
    CLI::App* verb = app.add_subcommand("watch", "a job live, until it ends");
    verb->footer("Example: concordat --config operator.yaml watch smollm2-manuals --until-done");
    verb->add_option("job", o->job, "job id, its first digits, its name, or its file")->required();
    verb->add_flag("--until-done", o->until_done, "the default; said in scripts");
    verb->add_option("--patience", o->patience_seconds,
                     "seconds without a coordinator before giving up (exit code 5)")
        ->capture_default_str();
    verb->callback([&context, o] { context.run = [&context, o] { return RunWatch(context, *o); }; });
  }
  one("cancel", "end a job; what has left stays charged",
      "Example: concordat --config operator.yaml cancel smollm2-manuals",
      "job id, its first digits, its name, or its file", RunCancel);
}

}  // namespace concordat::cli
