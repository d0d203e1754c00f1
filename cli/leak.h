#ifndef CONCORDAT_CLI_LEAK_H_
#define CONCORDAT_CLI_LEAK_H_

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "cli/context.h"
#include "common/bytes.h"
#include "common/ids.h"
#include "worker/sandbox/channel.h"

// Evidence, in a region, on an adapter that its records helped to train. Decision record 0011.
namespace concordat::cli {

struct LeakOptions {
  std::string adapter;        // folder of `adapter pull`
  std::string worker;         // the region's worker file
  uint32_t documents = 1000;  // of either side, at most
  double confidence = 0.95;   // of the audited epsilon
};

/// What an adapter's privacy.json promises.
struct ClaimedPrivacy {
  std::string unit;
  double delta = 0;
  /// For one record or person; infinity without noise. None when the unit is a site: that is no promise to
  /// a record of it, and nothing to hold an audit of records against.
  std::optional<double> epsilon;
};
/// InvalidArgument naming the field, NotFound without the file.
StatusOr<ClaimedPrivacy> ReadClaim(const std::string& adapter_folder);

struct LeakReport {
  JobId job;
  std::string name, worker, dataset;
  Digest adapter;
  uint32_t rounds = 0;
  uint32_t rounds_here = 0;  // with this region's part in the sum
  ClaimedPrivacy claim;
  sandbox::Audited found;

  bool canaries_found() const { return found.exposure && found.exposure->found(); }
  bool above_claim() const {
    return found.one_run && claim.epsilon && found.one_run->epsilon > *claim.epsilon;
  }
};

/// Keys as docs/CLI.md has them.
nlohmann::ordered_json ToJson(const LeakReport& report);
void Show(const LeakReport& report, Output& out);

/// Verifies the folder's chain, starts the region's trainer, locked down, on the region's own dataset, and
/// has it hold the adapter against members, held-out documents and canaries. Shows figures over many, never
/// a record, a canary or how one of them scored. Nothing leaves the region, and no ledger is charged. Exit
/// code 1 when canaries are found or the audited epsilon is above the claimed one.
/// FailedPrecondition: the region took part in no round of it. Other errors as VerifyAdapterFolder,
/// TrainerInterview and Trainer::Audit.
Status RunLeakAudit(Context& context, const LeakOptions& options);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_LEAK_H_
