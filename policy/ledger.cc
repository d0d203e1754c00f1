#include "policy/ledger.h"

#include <algorithm>
#include <cmath>

#include "aggregation/strict_json.h"
#include "policy/json_lines.h"
#include "privacy/crypto/hash.h"

namespace concordat::policy {
namespace {

Digest HashOf(const LedgerEntry& entry) {
  CanonicalWriter out;
  out.U64(entry.sequence);
  out.I64(entry.time.time_since_epoch().count());
  out.Text(entry.dataset);
  WriteCharge(out, entry.charge);
  out.F64(entry.epsilon_before);
  out.F64(entry.epsilon_after);
  out.Put(entry.previous);
  return crypto::TaggedHash("concordat/v1/ledger-entry", out.bytes());
}

nlohmann::ordered_json TermsToJson(const RdpCurve& curve) {
  nlohmann::ordered_json terms = nlohmann::ordered_json::array();
  for (const RdpTerm& term : curve.terms()) {
    terms.push_back({{"delta2_squared", term.delta2_squared},
                     {"delta1", term.delta1},
                     {"share_variance", term.share_variance},
                     {"shares", term.shares},
                     {"dimension", term.dimension},
                     {"count", term.count}});
  }
  return terms;
}

StatusOr<RdpCurve> TermsFromJson(const nlohmann::json& terms) {
  RdpCurve curve;
  if (!terms.is_array()) return DataLoss("no mechanism");
  for (const auto& item : terms) {
    JsonFields fields(item);
    RdpTerm term;
    term.delta2_squared = fields.Number("delta2_squared");
    term.delta1 = fields.Number("delta1");
    term.share_variance = fields.Number("share_variance");
    term.shares = static_cast<uint32_t>(fields.Whole("shares", UINT32_MAX));
    term.dimension = fields.Whole("dimension");
    term.count = fields.Whole("count");
    if (!fields.ok()) return DataLoss("a mechanism with a missing or malformed field");
    RETURN_IF_ERROR(curve.Add(term));
  }
  return curve;
}

StatusOr<ChargeKind> KindFromText(const std::string& text) {
  for (ChargeKind kind : {ChargeKind::kDelta, ChargeKind::kEvaluation}) {
    if (ChargeKindText(kind) == text) return kind;
  }
  return DataLoss("an unknown kind");
}

StatusOr<LedgerEntry> FromJson(const nlohmann::json& json) {
  JsonFields fields(json);
  LedgerEntry entry;
  entry.sequence = fields.Whole("sequence");
  const auto time = ParseInstant(fields.Text("time"));
  entry.dataset = fields.Text("dataset");
  const auto kind = KindFromText(fields.Text("kind"));
  entry.charge.attempt.job = fields.Hash("job");
  entry.charge.attempt.round = static_cast<uint32_t>(fields.Whole("round", UINT32_MAX));
  entry.charge.attempt.attempt = static_cast<uint32_t>(fields.Whole("attempt", UINT32_MAX));
  const auto unit = ParsePrivacyUnit(fields.Text("unit"));
  const auto neighbour = ParseNeighbour(fields.Text("neighbour"));
  const auto curve = TermsFromJson(fields.Child("mechanisms"));
  entry.epsilon_before = fields.Number("epsilon_before");
  entry.epsilon_after = fields.Number("epsilon_after");
  entry.previous = fields.Hash("previous");
  entry.hash = fields.Hash("hash");
  if (!fields.ok() || !time.ok() || !kind.ok() || !unit.ok() || !neighbour.ok() || !curve.ok()) {
    return DataLoss("a field is missing or malformed");
  }
  entry.time = *time;
  entry.charge.kind = *kind;
  entry.charge.unit = *unit;
  entry.charge.neighbour = *neighbour;
  entry.charge.curve = *curve;
  return entry;
}

StatusOr<std::vector<LedgerEntry>> ParseEntries(std::string_view text, const std::filesystem::path& path,
                                                std::string_view dataset) {
  std::vector<LedgerEntry> entries;
  ASSIGN_OR_RETURN(const auto lines, SplitLines(text, path));
  Digest previous = LedgerGenesis(dataset);
  for (std::string_view line : lines) {
    const auto where = fmt::format("{}: line {}", path.string(), entries.size() + 1);
    auto entry = ParseLedgerLine(line);
    if (!entry.ok()) return Annotate(entry.status(), where);
    if (entry->dataset != dataset) {
      return InvalidArgument("{}: this ledger is of dataset '{}', not '{}'", where,
                             entry->dataset.substr(0, 64), dataset);
    }
    if (entry->previous != previous || entry->sequence != entries.size()) {
      return DataLoss("{}: it does not follow the line before; a line was removed, added or changed", where);
    }
    previous = entry->hash;
    entries.push_back(*std::move(entry));
  }
  return entries;
}

std::chrono::year YearOf(Instant instant) {
  return std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(instant)).year();
}

}  // namespace

Digest LedgerGenesis(std::string_view dataset) {
  return crypto::TaggedHash("concordat/v1/ledger", AsBytes(dataset));
}

std::string FormatLedgerLine(const LedgerEntry& entry) {
  const LedgerCharge& charge = entry.charge;
  nlohmann::ordered_json json;
  json["sequence"] = entry.sequence;
  json["time"] = FormatInstant(entry.time);
  json["dataset"] = entry.dataset;
  json["kind"] = ChargeKindText(charge.kind);
  json["job"] = charge.attempt.job.hex();
  json["round"] = charge.attempt.round;
  json["attempt"] = charge.attempt.attempt;
  json["unit"] = PrivacyUnitText(charge.unit);
  json["neighbour"] = NeighbourText(charge.neighbour);
  json["mechanisms"] = TermsToJson(charge.curve);
  json["epsilon_before"] = NumberToJson(entry.epsilon_before);
  json["epsilon_after"] = NumberToJson(entry.epsilon_after);
  json["previous"] = entry.previous.hex();
  json["hash"] = entry.hash.hex();
  return json.dump();
}

StatusOr<LedgerEntry> ParseLedgerLine(std::string_view line) {
  const auto json = ParseStrictJson(line, "ledger entry");
  if (!json.ok()) return DataLoss("{}", Message(json.status()));
  ASSIGN_OR_RETURN(LedgerEntry entry, FromJson(*json));
  if (HashOf(entry) != entry.hash) return DataLoss("its hash is wrong; the line was changed");
  if (FormatLedgerLine(entry) != line) return DataLoss("it is not written as a ledger writes it");
  return entry;
}

StatusOr<std::vector<LedgerEntry>> ReadLedger(const std::filesystem::path& path, std::string_view dataset) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 30));
  return ParseEntries(text, path, dataset);
}

StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const std::filesystem::path& path, std::string_view dataset,
                                               const PrivacyBudget& budget, BudgetPeriod period) {
  std::unique_ptr<Ledger> ledger(new Ledger());
  ASSIGN_OR_RETURN(ledger->file_, OpenLockedForAppend(path));
  ASSIGN_OR_RETURN(const std::string text, ReadAll(ledger->file_.get(), path));
  ASSIGN_OR_RETURN(ledger->entries_, ParseEntries(text, path, dataset));
  ledger->path_ = path;
  ledger->dataset_ = dataset;
  ledger->budget_ = budget;
  ledger->period_ = period;
  return ledger;
}

std::vector<LedgerCharge> Ledger::InPeriod(Instant now) const {
  std::vector<LedgerCharge> charges;
  for (const LedgerEntry& entry : entries_) {
    // A clock that was set back must not free what a later year has spent.
    const bool counts = period_ == BudgetPeriod::kNone || YearOf(entry.time) >= YearOf(now);
    if (counts) charges.push_back(entry.charge);
  }
  return charges;
}

double Ledger::Spent(Instant now) const { return EpsilonSpent(budget_, InPeriod(now)); }

double Ledger::SpentAfter(Instant now, std::span<const LedgerCharge> added) const {
  return EpsilonAfter(budget_, InPeriod(now), added);
}

bool Ledger::IsCharged(ChargeKind kind, const AttemptId& attempt) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const LedgerEntry& entry) {
    return entry.charge.kind == kind && entry.charge.attempt == attempt;
  });
}

uint32_t Ledger::CountOf(ChargeKind kind, const JobId& job) const {
  return static_cast<uint32_t>(std::count_if(entries_.begin(), entries_.end(), [&](const LedgerEntry& entry) {
    return entry.charge.kind == kind && entry.charge.attempt.job == job;
  }));
}

StatusOr<LedgerEntry> Ledger::Charge(Instant now, const LedgerCharge& charge) {
  if (broken_) {
    return DataLoss("{}: an earlier write failed, so what is on the disk is not known; restart the worker",
                    path_.string());
  }
  // Charging is once for (J, r, a), in whatever period the first charge was.
  if (IsCharged(charge.kind, charge.attempt)) {
    return AlreadyExists("{} has been charged for kind {}", charge.attempt.Brief(),
                         ChargeKindText(charge.kind));
  }
  const std::vector<LedgerCharge> charges = InPeriod(now);
  if (const Status fits = CanCharge(budget_, charges, charge); !fits.ok()) {
    return Annotate(fits, fmt::format("ledger of dataset '{}'", dataset_));
  }
  LedgerEntry entry;
  entry.sequence = entries_.size();
  entry.time = now;
  entry.dataset = dataset_;
  entry.charge = charge;
  entry.epsilon_before = EpsilonSpent(budget_, charges);
  entry.epsilon_after = EpsilonAfter(budget_, charges, std::span(&charge, 1));
  entry.previous = head();
  entry.hash = HashOf(entry);
  if (const Status written = AppendLine(file_.get(), FormatLedgerLine(entry), path_); !written.ok()) {
    broken_ = written.code() != StatusCode::kResourceExhausted;
    return written;
  }
  entries_.push_back(entry);
  return entry;
}

}  // namespace concordat::policy
