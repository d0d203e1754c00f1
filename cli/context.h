#ifndef CONCORDAT_CLI_CONTEXT_H_
#define CONCORDAT_CLI_CONTEXT_H_

#include <functional>
#include <iosfwd>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/status.h"

namespace CLI {
class App;
}
namespace grpc {
class Channel;
}
namespace concordat::policy {
struct OperatorConfig;
struct SignedCharter;
}  // namespace concordat::policy

namespace concordat::cli {

/// What a verb leaves behind for the shell. Scripts rely on the numbers.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,        // wrong call, or a file that does not read
  kRefused = 3,      // a policy or a charter forbids it
  kBudgetSpent = 4,  // privacy budget or quota
  kUnreachable = 5   // the peer does not answer
};
ExitCode ExitCodeOf(const Status& status);

/// Where a verb writes. With --json: one object, or one per line, with stable keys, and nothing else on
/// standard output. Colour and moving lines only on a terminal.
class Output {
 public:
  Output(std::ostream& out, std::ostream& err, bool terminal) : out_(out), err_(err), terminal_(terminal) {}

  bool json() const { return json_; }
  void set_json(bool json) { json_ = json; }
  bool terminal() const { return terminal_ && !json_; }

  /// A line for people; nothing with --json.
  void Say(std::string_view line);
  /// A line for programs; nothing without --json.
  void Json(const nlohmann::ordered_json& object);
  /// A table for people: columns as wide as their content, numbers (by `right`) to the right.
  void Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
             const std::vector<bool>& right = {});
  /// The error that ends a verb: "error: …" on standard error, or {"error": …} with --json.
  void Error(const Status& status);
  /// `text` in bold, green, yellow or red where that shows.
  enum class Style { kBold, kGood, kWarn, kBad, kFaint };
  std::string Paint(std::string_view text, Style style) const;
  /// Overwrites the lines written by the last call, on a terminal.
  void Redraw(const std::vector<std::string>& lines);

 private:
  std::ostream& out_;
  std::ostream& err_;
  bool terminal_;
  bool json_ = false;
  size_t drawn_ = 0;
};

/// What the command takes from its surroundings. Tests give their own.
struct Surroundings {
  /// Opens the channel to the coordinator; empty: mutual TLS to the charter's coordinator.
  std::function<StatusOr<std::shared_ptr<grpc::Channel>>(const policy::OperatorConfig&,
                                                         const policy::SignedCharter&)>
      dial;
  const Clock* clock = nullptr;       // nullptr: the machine's
  std::function<void(Millis)> pause;  // between attempts to reconnect; empty: sleeps
};

/// What every verb gets. `run` is set by the verb that the command line names.
struct Context {
  Output& output;
  const Surroundings& surroundings;
  std::string config;  // --config, or $CONCORDAT_CONFIG
  std::function<Status()> run;
  /// Set by a verb whose output already says all, and that must still end with another code than 0.
  std::optional<ExitCode> exit;

  const Clock& clock() const;
};

/// Each adds its verbs to `app`.
void AddRegionVerbs(CLI::App& app, Context& context);
void AddCharterVerbs(CLI::App& app, Context& context);
void AddJobVerbs(CLI::App& app, Context& context);
void AddDecisionVerbs(CLI::App& app, Context& context);
void AddAdapterVerbs(CLI::App& app, Context& context);
void AddModelVerbs(CLI::App& app, Context& context);
void AddEvaluationVerbs(CLI::App& app, Context& context);
void AddLedgerVerbs(CLI::App& app, Context& context);
void AddEpsilonVerb(CLI::App& app, Context& context);
void AddDoctorVerb(CLI::App& app, Context& context);

/// The whole command. Tests call it with their own streams.
int Main(int argc, const char* const* argv, std::ostream& out, std::ostream& err, bool terminal,
         const Surroundings& surroundings = {});

// Words for people.
std::string HumanBytes(uint64_t bytes);           // "4.7 MiB"
std::string HumanDuration(int64_t milliseconds);  // "2m 05s"
std::string HumanEpsilon(double epsilon);         // "3.21", "4.2e+07", "infinite (no guarantee)"
/// Text of a peer's or file's choosing as it may be shown: control characters, which could move a terminal's
/// cursor, become '?', and it ends after `max_bytes`.
std::string Printable(std::string_view text, size_t max_bytes = 400);

// Values for programs. JSON has neither infinity nor NaN: "infinity" and null.
nlohmann::ordered_json NumberJson(double value);
nlohmann::ordered_json InstantJson(int64_t milliseconds);  // since 1970; null for 0

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_CONTEXT_H_
