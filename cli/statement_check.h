#ifndef CONCORDAT_CLI_STATEMENT_CHECK_H_
#define CONCORDAT_CLI_STATEMENT_CHECK_H_

#include "cli/adapter_chain.h"
#include "policy/ledger_statement.h"

// Whether a region's ledger statement can be what an adapter's rounds were charged there.
namespace concordat::cli {

/// OK when a verified statement fits the adapter after `rounds` rounds of a verified `record`.
/// InvalidArgument when it is of another job, of a worker that has no part in these rounds, or lacks the
/// charge of a round in whose sum the worker is and has no restored charges that cover it. PermissionDenied
/// when it was made under another charter than the job. DataLoss when a row charges less than an attempt
/// costs by the job's own file, in another unit, or counts on more honest sites. What evaluations cost is the
/// region's own rule: they are taken as they are. Attempts without a result are only known if the region says
/// so.
Status CheckStatement(const policy::JobSpec& job, const ChainRecord& record, uint32_t rounds,
                      const policy::LedgerStatement& statement);

/// The most shares of noise that a price counts together.
uint32_t SharesOf(const Price& price);
/// `price` with each integer release's noise in `shares` equal shares: of the whole noise that it has, or
/// each share as it is. InvalidArgument as RdpCurve::Add.
StatusOr<Price> InShares(const Price& price, uint32_t shares, bool of_the_whole);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_STATEMENT_CHECK_H_
