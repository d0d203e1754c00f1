#include <CLI/CLI.hpp>
#include <cstdlib>
#include <ostream>

#include "cli/context.h"
#include "common/version.h"

namespace concordat::cli {

const Clock& Context::clock() const {
  static const SystemClock kClock;
  return surroundings.clock != nullptr ? *surroundings.clock : kClock;
}

int Main(int argc, const char* const* argv, std::ostream& out, std::ostream& err, bool terminal,
         const Surroundings& surroundings) {
  Output output(out, err, terminal);
  Context context{output, surroundings, {}, {}, {}};
  if (const char* config = std::getenv("CONCORDAT_CONFIG")) context.config = config;

  CLI::App app{
      "Concordat: fine-tune one LoRA adapter together across jurisdictions.\n"
      "Exit codes: 0 done, 1 failed, 2 usage or config, 3 refused by a policy, 4 budget spent, 5 "
      "unreachable.",
      "concordat"};
  app.set_version_flag("--version", fmt::format("concordat {} (protocol {})", kVersion, kProtocolVersion));
  app.require_subcommand(1);
  app.fallthrough();
  bool json = false;
  app.add_flag("--json", json, "one JSON object, or one per line, with stable keys");
  app.add_option("-c,--config", context.config,
                 "operator file: who you are and where the coordinator is (default: $CONCORDAT_CONFIG)");
  AddRegionVerbs(app, context);
  AddCharterVerbs(app, context);
  AddJobVerbs(app, context);
  AddDecisionVerbs(app, context);
  AddAdapterVerbs(app, context);
  AddEvaluationVerbs(app, context);
  AddModelVerbs(app, context);
  AddLedgerVerbs(app, context);
  AddEpsilonVerb(app, context);
  AddDoctorVerb(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& e) {
    app.exit(e, out, err);
    return 0;
  } catch (const CLI::CallForAllHelp& e) {
    app.exit(e, out, err);
    return 0;
  } catch (const CLI::CallForVersion& e) {
    app.exit(e, out, err);
    return 0;
  } catch (const CLI::ParseError& e) {
    output.set_json(json);
    // CLI11 says only that a verb is missing when it does not know the one given.
    const auto unknown = app.remaining(true);
    // The help that explains it is that of the verb that was being read.
    const CLI::App* last = &app;
    std::string verb = "concordat";
    for (auto at = app.get_subcommands(); !at.empty(); at = last->get_subcommands()) {
      last = at.front();
      verb += " " + last->get_name();
    }
    const std::string what = unknown.empty() || last->get_require_subcommand_min() == 0
                                 ? std::string(e.what())
                                 : fmt::format("no verb '{}'", Printable(unknown.front(), 40));
    output.Error(MakeStatus(StatusCode::kInvalidArgument, fmt::format("{} ({} --help)", what, verb)));
    return static_cast<int>(ExitCode::kUsage);
  }
  output.set_json(json);
  const Status status = context.run ? context.run() : InvalidArgument("no such verb (concordat --help)");
  if (!status.ok()) output.Error(status);
  return static_cast<int>(status.ok() ? context.exit.value_or(ExitCode::kDone) : ExitCodeOf(status));
}

}  // namespace concordat::cli
