#ifndef CONCORDAT_CLI_STATEMENT_VERBS_H_
#define CONCORDAT_CLI_STATEMENT_VERBS_H_

#include "cli/context.h"

namespace concordat::cli {

/// `adapter statement` and `ledger statement`, under the verbs that they belong to.
void AddAdapterStatementVerb(CLI::App& adapter, Context& context);
void AddLedgerStatementVerb(CLI::App& ledger, Context& context);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_STATEMENT_VERBS_H_
