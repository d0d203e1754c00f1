#include <CLI/CLI.hpp>
#include <memory>

#include "cli/evaluation.h"
#include "cli/leak.h"
#include "cli/price.h"
#include "cli/report.h"
#include "common/files.h"

namespace concordat::cli {
namespace {

struct EvalOptions {
  std::string job, rounds = "last", leak, worker;
  double confidence = 0.95;
  uint32_t documents = 1000;
  uint32_t wait_seconds = 1800;
};

Status RunEval(Context& context, const EvalOptions& options) {
  if (!options.leak.empty()) {
    if (!options.job.empty())
      return InvalidArgument("--leak takes a folder of `adapter pull`, and no job besides");
    if (options.worker.empty())
      return InvalidArgument("--worker is missing: the file of the region whose records are looked for");
    return RunLeakAudit(context, {options.leak, options.worker, options.documents, options.confidence});
  }
  if (options.job.empty())
    return InvalidArgument("job is required, or --leak FOLDER (concordat eval --help)");
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(options.job));
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   Evaluate(*client, job, options.rounds == "all", options.documents,
                            Millis(int64_t{options.wait_seconds} * 1000)));
  context.output.Json(ToJson(evaluation));
  Show(evaluation, context.output);
  context.exit = evaluation.NothingReleased();
  return OkStatus();
}

struct ReportOptions {
  std::string job, out = "report.html", evaluation;
  bool no_eval = false;
  uint32_t documents = 1000;
  uint32_t wait_seconds = 1800;
};

/// Each round: regions, the plan's epsilon, bytes, time.
void SayRounds(Output& out, const pb::RoundsReply& reply) {
  std::vector<std::vector<std::string>> rows;
  uint64_t up = 0, down = 0;
  int64_t took = 0;
  for (const auto& round : reply.rounds()) {
    up += round.bytes_up();
    down += round.bytes_down();
    took += round.ended_ms() - round.started_ms();
    rows.push_back({std::to_string(round.round() + 1), std::to_string(round.survivors_size()),
                    std::to_string(round.missing_size()), fmt::format("{:.4f}", round.mean_loss()),
                    HumanEpsilon(round.epsilon_local()), HumanBytes(round.bytes_up()),
                    HumanBytes(round.bytes_down()), HumanDuration(round.ended_ms() - round.started_ms())});
  }
  rows.push_back({"all", "", "", "", "", HumanBytes(up), HumanBytes(down), HumanDuration(took)});
  out.Table({"round", "regions", "missing", "loss", "planned epsilon", "up", "down", "time"}, rows,
            std::vector<bool>(8, true));
  out.Say("");
}

Status RunReport(Context& context, const ReportOptions& options) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(options.job));
  ReportInput input;
  ASSIGN_OR_RETURN(input.state, client->State(job));
  ASSIGN_OR_RETURN(input.rounds, client->Rounds(job));
  ASSIGN_OR_RETURN(input.job, ReportedJob(job, input.state, input.rounds));
  input.made = context.clock().Now();
  if (!options.evaluation.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.evaluation, 64 << 20));
    auto evaluation = EvaluationFromJson(nlohmann::json::parse(text, nullptr, false));
    if (!evaluation.ok()) return Annotate(evaluation.status(), options.evaluation);
    if (evaluation->job != job) {
      return InvalidArgument("{}: an evaluation of job {}, not of {}", options.evaluation,
                             evaluation->job.brief(), job.brief());
    }
    input.evaluation = *std::move(evaluation);
  } else if (!options.no_eval && input.rounds.rounds_size() > 0) {
    ASSIGN_OR_RETURN(input.evaluation, Evaluate(*client, job, false, options.documents,
                                                Millis(int64_t{options.wait_seconds} * 1000)));
  }
  std::filesystem::path json_file = options.out;
  json_file.replace_extension(".json");
  RETURN_IF_ERROR(WriteFileAtomically(options.out, ReportHtml(input)));
  RETURN_IF_ERROR(WriteFileAtomically(json_file, ReportJson(input).dump(2) + "\n"));
  context.output.Json({{"job", job.hex()}, {"html", options.out}, {"json", json_file.string()}});
  SayRounds(context.output, input.rounds);
  if (const auto price = PriceOf(input.job, static_cast<uint32_t>(input.rounds.rounds_size()),
                                 AttemptsBegun(input.state, input.rounds), LargestRoster(input.rounds));
      price.ok()) {
    for (const auto& sentence : Explain(*price)) context.output.Say(sentence);
  }
  if (input.evaluation.has_value()) Show(*input.evaluation, context.output);
  context.output.Say(fmt::format("wrote {} and {}", options.out, json_file.string()));
  return OkStatus();
}

}  // namespace

void AddEvaluationVerbs(CLI::App& app, Context& context) {
  {
    auto o = std::make_shared<EvalOptions>();
    CLI::App* verb = app.add_subcommand("eval", "base and federated model on every region's held-out text");
    verb->footer(
        "Example: concordat --config operator.yaml eval smollm2-manuals --rounds all\n"
        "Each region computes its own cell and charges it to its own ledger.\n"
        "Example: concordat eval --leak adapter --worker hospital-de/worker.yaml\n"
        "In a region, without a coordinator: does this adapter give away what it was trained on here?");
    verb->add_option("job", o->job, "job id, its first digits, its name, or its file");
    CLI::Option* leak = verb->add_option(
        "--leak", o->leak, "in a region: a folder of `adapter pull`, held against the region's own records");
    verb->add_option("--worker", o->worker, "with --leak: the worker's file")->needs(leak);
    verb->add_option("--confidence", o->confidence, "with --leak: of the audited epsilon")
        ->needs(leak)
        ->check(CLI::Range(0.5, 0.999999))
        ->capture_default_str();
    verb->add_option("--rounds", o->rounds, "last, or all: one row for each round's adapter")
        ->check(CLI::IsMember({"last", "all"}))
        ->capture_default_str();
    verb->add_option("--documents", o->documents,
                     "held-out documents in each region, at most; with --leak also of those trained on")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    verb->add_option("--wait", o->wait_seconds, "seconds to wait for regions")
        ->check(CLI::Range(1, 86400))
        ->capture_default_str();
    verb->callback([&context, o] { context.run = [&context, o] { return RunEval(context, *o); }; });
  }
  auto o = std::make_shared<ReportOptions>();
  CLI::App* verb =
      app.add_subcommand("report", "one HTML file and its JSON twin: evaluation, epsilon, rounds");
  verb->footer("Example: concordat --config operator.yaml report smollm2-manuals --out report.html");
  verb->add_option("job", o->job, "job id, its first digits, its name, or its file")->required();
  verb->add_option("--out", o->out, "HTML file; the JSON goes beside it")->capture_default_str();
  verb->add_option("--evaluation", o->evaluation, "use what `eval --json` wrote: no second charge");
  verb->add_flag("--no-eval", o->no_eval, "without the evaluation matrix");
  verb->add_option("--documents", o->documents, "held-out documents in each region, at most")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  verb->add_option("--wait", o->wait_seconds, "seconds to wait for regions")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  verb->callback([&context, o] { context.run = [&context, o] { return RunReport(context, *o); }; });
}

}  // namespace concordat::cli
