#ifndef CONCORDAT_POLICY_LEDGER_STATEMENT_H_
#define CONCORDAT_POLICY_LEDGER_STATEMENT_H_

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/charter.h"
#include "policy/ledger.h"

namespace concordat::policy {

/// What a region hands out of a dataset's ledger for one job, signed by the worker that charged it
/// (docs/decisions/0012-what-a-region-says-it-was-charged.md). Every line from the job's first charge to the
/// ledger's head stands in it whole, other jobs' too: a line's hash covers all of it, so that a chain with
/// lines left out shows nothing. Lines hold prices, hashes, times and the dataset's name; nothing that was
/// computed from a record.
struct LedgerStatement {
  static constexpr std::string_view kDomain = "concordat/v1/ledger-statement";
  Digest charter;
  SpiffeId worker;
  JobId job;
  std::string dataset;
  /// What the dataset's budget counts; its lines' ε are at this δ, within this period.
  PrivacyUnit unit = PrivacyUnit::kSite;
  Neighbour neighbour = Neighbour::kZeroOut;
  double delta = 0;
  BudgetPeriod period = BudgetPeriod::kNone;
  Instant issued{};
  Digest head;  // of the whole ledger: the hash of the last of `rows`
  std::vector<LedgerEntry> rows;
};

struct SignedLedgerStatement {
  LedgerStatement body;
  crypto::Signature signature{};
  std::string chain;  // the worker's certificate, PEM, leaf first
};

/// The lines of a ledger from the first that is `job`'s, or that was restored and may stand for one of its,
/// to the last. NotFound when there is none.
StatusOr<std::vector<LedgerEntry>> StatementRows(std::span<const LedgerEntry> ledger, const JobId& job);

/// What is signed: every field, the rows by their hashes.
Bytes Canonical(const LedgerStatement& statement);
SignedLedgerStatement SignLedgerStatement(LedgerStatement statement, const crypto::SigningKey& key,
                                          std::string_view chain);

/// One JSON object, its rows as the ledger writes them, and back. Reading checks each row's own hash; what
/// follows from the rest is VerifyLedgerStatement's. DataLoss naming the row when one was changed;
/// InvalidArgument when the object is no statement.
nlohmann::ordered_json ToJson(const SignedLedgerStatement& statement);
StatusOr<SignedLedgerStatement> ReadLedgerStatement(const nlohmann::json& json);

/// The statement by itself: a worker's certificate, its signature over all of it, rows that follow each other
/// to the head. PermissionDenied for the signer; DataLoss for rows and head, naming the row. Does not know
/// whose the certificate is: see the next.
Status VerifyLedgerStatement(const SignedLedgerStatement& statement);
/// And that the signer is a worker of a member of this charter, by a certificate that was good when the
/// statement was issued. PermissionDenied, also for a statement that was made under another charter.
Status VerifyLedgerStatement(const SignedLedgerStatement& statement, const SignedCharter& charter);

/// Whether `newer` goes on from `older`, both verified and of one job and worker: a ledger takes nothing
/// back. AlreadyExists when it is the older one of the two; DataLoss when neither goes on from the other.
Status CheckFollows(const LedgerStatement& older, const LedgerStatement& newer);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_STATEMENT_H_
