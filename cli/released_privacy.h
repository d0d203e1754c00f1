#ifndef CONCORDAT_CLI_RELEASED_PRIVACY_H_
#define CONCORDAT_CLI_RELEASED_PRIVACY_H_

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/adapter_chain.h"
#include "cli/price.h"
#include "policy/ledger_statement.h"

// What an adapter says of privacy wherever it goes: privacy.json and README.md, its model card. A job's plan
// gives one price for all regions; a region's signed statement of its ledger replaces it by what was charged.
namespace concordat::cli {

/// Of privacy.json: a ledger's lines for each of a hundred regions.
inline constexpr uint64_t kMaxPrivacyBytes = 256u << 20;

/// What one region's data paid.
struct RegionPrivacy {
  std::string worker;   // SPIFFE ID, or what a coordinator gave for one
  uint32_t rounds = 0;  // of the adapter's, in whose sum it is
  PrivacyUnit unit = PrivacyUnit::kSite;
  Neighbour neighbour = Neighbour::kZeroOut;
  double delta = 0;
  /// Of the adapter: its rounds with every attempt at them that was charged, and restored charges.
  double epsilon_local = 0;
  std::optional<double> epsilon_distributed;
  uint32_t honest_survivors = 0;
  /// All that the job was charged there: later rounds and evaluations too. With a statement only.
  double epsilon_charged = 0;
  uint32_t attempts = 0, evaluations = 0, restored = 0;
  /// Without one the figures above are the plan's.
  std::optional<policy::SignedLedgerStatement> statement;
};

struct ReleasedPrivacy {
  policy::JobSpec job;
  ChainRecord record;
  uint32_t rounds = 0;  // of the adapter
  Digest adapter;
  JobPrice price;
  std::vector<RegionPrivacy> regions;  // in a sum or with a statement, by name
};

/// Prices the adapter after `rounds` rounds of a verified `record`, with the regions' verified statements.
/// A statement is refused, naming its worker, when it is of another job or of a worker that has no part in
/// these rounds, or lacks the charge of a round in whose sum the worker is (InvalidArgument), or charges less
/// than the job's own file costs (DataLoss).
StatusOr<ReleasedPrivacy> PrivacyOf(const ChainRecord& record, uint32_t rounds, const Digest& adapter,
                                    std::vector<policy::SignedLedgerStatement> statements);
/// Attempts at the first `rounds` rounds that began, by the record.
uint32_t AttemptsOf(const ChainRecord& record, uint32_t rounds);

/// The keys of JobPrice, then `job`, `adapter`, `regions_text`, `regions[]` with whole statements
/// (docs/CLI.md).
nlohmann::ordered_json ToJson(const ReleasedPrivacy& privacy);

/// The model card: Markdown after YAML front matter, as model hubs read it.
/// \param merged the weights are base and adapter in one
std::string ModelCard(const ReleasedPrivacy& privacy, bool merged);

inline constexpr const char* kCardFile = "README.md";
/// Writes privacy.json and README.md into `folder`.
Status WritePrivacy(const std::filesystem::path& folder, const ReleasedPrivacy& privacy, bool merged = false);

/// The same beside a file that is an adapter by itself: FILE.privacy.json, FILE.README.md.
Status WritePrivacyBeside(const std::filesystem::path& file, const ReleasedPrivacy& privacy);

/// The statements that a folder's privacy.json holds, not verified; none when there is no such file or it is
/// of a version before statements. InvalidArgument or DataLoss when the file does not read.
StatusOr<std::vector<policy::SignedLedgerStatement>> ReadStatements(const std::filesystem::path& folder);

/// PrivacyOf a pulled folder as its chain.json and privacy.json say, each statement verified: by itself, or
/// with `charter` (nullptr: none) against that too. Errors name the worker.
StatusOr<ReleasedPrivacy> PrivacyOfFolder(const std::filesystem::path& folder, const AdapterFolder& chain,
                                          const policy::SignedCharter* charter);
/// The charter that a job's statements are held against: `file` (--charter), or what the operator's file pins
/// if that is the job's; nothing otherwise. PermissionDenied when its members have not all signed it, or
/// `file` is not the job's.
StatusOr<std::optional<policy::SignedCharter>> CharterOfJob(const Context& context, const std::string& file,
                                                            const Digest& charter);

/// That the figures in a folder's privacy.json are those of `privacy`. DataLoss naming the first that is not;
/// OK for a file of a version before statements.
Status CheckPrivacyFile(const std::filesystem::path& folder, const ReleasedPrivacy& privacy);

/// Puts `added` among `statements`: in place of the one of its worker, if it goes on from that. AlreadyExists
/// and DataLoss as CheckFollows.
Status AddStatement(std::vector<policy::SignedLedgerStatement>& statements,
                    policy::SignedLedgerStatement added);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_RELEASED_PRIVACY_H_
