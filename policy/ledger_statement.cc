#include "policy/ledger_statement.h"

#include <algorithm>

#include "policy/ledger_json.h"

namespace concordat::policy {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormat = "concordat-ledger-statement/1";
// An attempt has at most 100 sites. More shares would only cost whoever recomputes the price its time.
constexpr uint32_t kMaxShares = kMaxSites;

StatusOr<BudgetPeriod> ParsePeriod(const std::string& text) {
  for (BudgetPeriod period : {BudgetPeriod::kNone, BudgetPeriod::kYearly})
    if (BudgetPeriodName(period) == text) return period;
  return InvalidArgument("period: expected one of: none, yearly");
}

StatusOr<std::vector<LedgerEntry>> ReadRows(const nlohmann::json& json) {
  std::vector<LedgerEntry> rows;
  if (!json.is_array() || json.empty()) return InvalidArgument("rows: expected a list of at least one");
  for (const auto& item : json) {
    auto row = LedgerEntryFromJson(item);
    if (!row.ok()) return DataLoss("row {}: {}", rows.size() + 1, Message(row.status()));
    for (const RdpTerm& term : row->charge.price.curve().terms())
      if (term.shares > kMaxShares)
        return InvalidArgument("row {}: {} shares of noise, of at most {} sites", rows.size() + 1,
                               term.shares, kMaxShares);
    rows.push_back(*std::move(row));
  }
  return rows;
}

/// The leaf of the statement's own chain.
StatusOr<crypto::Certificate> LeafOf(const SignedLedgerStatement& statement) {
  ASSIGN_OR_RETURN(const auto pems, crypto::SplitPemChain(statement.chain));
  return crypto::Certificate::FromPem(pems.front());
}

Status CheckSignature(const SignedLedgerStatement& statement) {
  const LedgerStatement& body = statement.body;
  ASSIGN_OR_RETURN(const crypto::Certificate leaf, LeafOf(statement));
  ASSIGN_OR_RETURN(const SpiffeId signer, leaf.spiffe_id());
  if (signer.role() != Role::kWorker)
    return PermissionDenied("it is signed by {}: expected a worker", signer.ToString());
  if (signer != body.worker)
    return PermissionDenied("it is signed by {}, and speaks for {}", signer.ToString(),
                            body.worker.ToString());
  ASSIGN_OR_RETURN(const crypto::VerifyKey key, crypto::VerifyKey::FromSpki(leaf.spki()));
  return Annotate(key.Verify(LedgerStatement::kDomain, Canonical(body), statement.signature),
                  fmt::format("it is not as {} signed it", signer.ToString()));
}

Status CheckRows(const LedgerStatement& body) {
  if (body.rows.empty()) return DataLoss("it has no row");
  for (size_t i = 0; i < body.rows.size(); ++i) {
    const LedgerEntry& row = body.rows[i];
    if (row.dataset != body.dataset)
      return DataLoss("row {}: it is of dataset '{}', the statement of '{}'", i + 1, row.dataset,
                      body.dataset);
    const bool first = i == 0;
    const bool follows =
        first ? row.sequence > 0 || row.previous == LedgerGenesis(body.dataset)
              : row.previous == body.rows[i - 1].hash && row.sequence == body.rows[i - 1].sequence + 1;
    if (!follows)
      return DataLoss("row {}: it does not follow the {}; a row was removed, added or changed", i + 1,
                      first ? "ledger's beginning" : "row before");
  }
  if (body.rows.back().hash != body.head)
    return DataLoss("its head {} is not the last row's hash {}", body.head.brief(),
                    body.rows.back().hash.brief());
  return OkStatus();
}

bool Holds(const LedgerStatement& statement, const Digest& head) {
  return std::ranges::any_of(statement.rows, [&](const LedgerEntry& row) { return row.hash == head; });
}

}  // namespace

StatusOr<std::vector<LedgerEntry>> StatementRows(std::span<const LedgerEntry> ledger, const JobId& job) {
  const auto first = std::ranges::find_if(ledger, [&](const LedgerEntry& entry) {
    return entry.charge.kind == ChargeKind::kRestored || entry.charge.attempt.job == job;
  });
  if (first == ledger.end()) return NotFound("the ledger has no charge of job {}", job.brief());
  return std::vector<LedgerEntry>(first, ledger.end());
}

Bytes Canonical(const LedgerStatement& s) {
  CanonicalWriter out;
  out.Put(s.charter);
  out.Text(s.worker.ToString());
  out.Put(s.job);
  out.Text(s.dataset);
  out.U8(static_cast<uint8_t>(s.unit));
  out.U8(static_cast<uint8_t>(s.neighbour));
  out.F64(s.delta);
  out.U8(static_cast<uint8_t>(s.period));
  out.I64(s.issued.time_since_epoch().count());
  out.Put(s.head);
  out.Count(s.rows.size());
  for (const LedgerEntry& row : s.rows) out.Put(row.hash);
  return out.Take();
}

SignedLedgerStatement SignLedgerStatement(LedgerStatement statement, const crypto::SigningKey& key,
                                          std::string_view chain) {
  const auto signature = key.Sign(LedgerStatement::kDomain, Canonical(statement));
  return {std::move(statement), signature, std::string(chain)};
}

ordered_json ToJson(const SignedLedgerStatement& statement) {
  const LedgerStatement& s = statement.body;
  ordered_json rows = ordered_json::array();
  for (const LedgerEntry& row : s.rows) rows.push_back(ordered_json::parse(FormatLedgerLine(row)));
  return {{"format", kFormat},
          {"charter", s.charter.hex()},
          {"worker", s.worker.ToString()},
          {"job", s.job.hex()},
          {"dataset", s.dataset},
          {"unit", PrivacyUnitText(s.unit)},
          {"neighbour", NeighbourText(s.neighbour)},
          {"delta", s.delta},
          {"period", BudgetPeriodName(s.period)},
          {"issued", FormatInstant(s.issued)},
          {"head", s.head.hex()},
          {"rows", std::move(rows)},
          {"certificate", statement.chain},
          {"signature", ToHex(statement.signature)}};
}

StatusOr<SignedLedgerStatement> ReadLedgerStatement(const nlohmann::json& json) {
  JsonFields fields(json);
  if (fields.Text("format") != kFormat)
    return InvalidArgument("no ledger statement: expected an object with format {}", kFormat);
  SignedLedgerStatement out;
  LedgerStatement& body = out.body;
  body.charter = fields.Hash("charter");
  const auto worker = SpiffeId::Parse(fields.Text("worker"));
  body.job = fields.Hash("job");
  body.dataset = fields.Text("dataset");
  const auto unit = ParsePrivacyUnit(fields.Text("unit"));
  const auto neighbour = ParseNeighbour(fields.Text("neighbour"));
  body.delta = fields.Number("delta");
  const auto period = ParsePeriod(fields.Text("period"));
  const auto issued = ParseInstant(fields.Text("issued"));
  body.head = fields.Hash("head");
  out.chain = fields.Text("certificate");
  const auto signature = SignatureFromHex(fields.Text("signature"));
  if (!fields.ok()) return InvalidArgument("a ledger statement with a field missing or malformed");
  for (const Status& read : {worker.status(), unit.status(), neighbour.status(), period.status(),
                             issued.status(), signature.status()})
    if (!read.ok()) return Annotate(read, "a ledger statement");
  if (!(body.delta >= 0 && body.delta < 1))
    return InvalidArgument("a ledger statement: expected a delta from 0 to below 1, got {}", body.delta);
  body.worker = *worker;
  body.unit = *unit;
  body.neighbour = *neighbour;
  body.period = *period;
  body.issued = *issued;
  out.signature = *signature;
  ASSIGN_OR_RETURN(body.rows, ReadRows(fields.Child("rows")));
  // Fields that nobody signed would be believed all the same.
  if (nlohmann::json(ToJson(out)) != json)
    return InvalidArgument("a ledger statement holds what none is written with");
  return out;
}

Status VerifyLedgerStatement(const SignedLedgerStatement& statement) {
  RETURN_IF_ERROR(CheckSignature(statement));
  return CheckRows(statement.body);
}

Status VerifyLedgerStatement(const SignedLedgerStatement& statement, const SignedCharter& charter) {
  const LedgerStatement& body = statement.body;
  if (body.charter != charter.hash)
    return PermissionDenied("it was made under charter {}, not under {}", body.charter.brief(),
                            charter.hash.brief());
  // Whether the certificate was good then, not whether it still is.
  const auto peer = CheckPeer(charter.charter, statement.chain, body.issued);
  if (!peer.ok()) return Annotate(peer.status(), "its signer");
  return VerifyLedgerStatement(statement);
}

Status CheckFollows(const LedgerStatement& older, const LedgerStatement& newer) {
  if (Holds(newer, older.head)) return OkStatus();
  if (Holds(older, newer.head))
    return AlreadyExists("it ends at row {}, before the statement that is there, which ends at row {}",
                         newer.rows.back().sequence + 1, older.rows.back().sequence + 1);
  return DataLoss(
      "it is of another history than the statement that is there: that one's row {} with hash {} is not in "
      "it, and a ledger takes nothing back",
      older.rows.back().sequence + 1, older.head.brief());
}

}  // namespace concordat::policy
