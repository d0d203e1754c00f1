#include "policy/ledger.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "aggregation/strict_json.h"
#include "policy/ledger_json.h"
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

StatusOr<ChargeKind> KindFromText(const std::string& text) {
  for (ChargeKind kind : {ChargeKind::kDelta, ChargeKind::kEvaluation, ChargeKind::kRestored}) {
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
  const auto price = PriceFromJson(fields.Child("mechanisms"));
  entry.epsilon_before = fields.Number("epsilon_before");
  entry.epsilon_after = fields.Number("epsilon_after");
  entry.previous = fields.Hash("previous");
  entry.hash = fields.Hash("hash");
  if (!fields.ok() || !time.ok() || !kind.ok() || !unit.ok() || !neighbour.ok() || !price.ok()) {
    return DataLoss("a field is missing or malformed");
  }
  entry.time = *time;
  entry.charge.kind = *kind;
  entry.charge.unit = *unit;
  entry.charge.neighbour = *neighbour;
  entry.charge.price = *price;
  return entry;
}

/// The entries of `text` up to the first line that is none, or does not follow. \param bytes where they end
Status ParsePrefix(std::string_view text, const std::filesystem::path& path, std::string_view dataset,
                   std::vector<LedgerEntry>* entries, uint64_t* bytes) {
  Digest previous = LedgerGenesis(dataset);
  *bytes = 0;
  const auto lines = SplitLines(text, path);
  std::string_view rest = text;
  for (size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
    const auto where = fmt::format("{}: line {}", path.string(), entries->size() + 1);
    auto entry = ParseLedgerLine(rest.substr(0, end));
    if (!entry.ok()) return Annotate(entry.status(), where);
    if (entry->dataset != dataset) {
      return InvalidArgument("{}: this ledger is of dataset '{}', not '{}'", where,
                             entry->dataset.substr(0, 64), dataset);
    }
    if (entry->previous != previous || entry->sequence != entries->size()) {
      return DataLoss("{}: it does not follow the line before; a line was removed, added or changed", where);
    }
    previous = entry->hash;
    entries->push_back(*std::move(entry));
    *bytes += end + 1;
    rest.remove_prefix(end + 1);
  }
  return lines.status();
}

StatusOr<std::vector<LedgerEntry>> ParseEntries(std::string_view text, const std::filesystem::path& path,
                                                std::string_view dataset) {
  std::vector<LedgerEntry> entries;
  uint64_t bytes = 0;
  RETURN_IF_ERROR(ParsePrefix(text, path, dataset, &entries, &bytes));
  return entries;
}

std::chrono::year YearOf(Instant instant) {
  return std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(instant)).year();
}

}  // namespace

nlohmann::ordered_json PriceToJson(const Price& price) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const RdpTerm& term : price.curve().terms()) {
    out.push_back({{"delta2_squared", term.delta2_squared},
                   {"delta1", term.delta1},
                   {"share_variance", term.share_variance},
                   {"shares", term.shares},
                   {"dimension", term.dimension},
                   {"count", term.count}});
  }
  for (const SubsampledGaussian& s : price.steps())
    out.push_back({{"sampling_rate", s.q}, {"noise_multiplier", s.sigma}, {"steps", s.steps}});
  return out;
}

namespace {

StatusOr<RdpTerm> TermFromJson(JsonFields& fields) {
  RdpTerm term;
  term.delta2_squared = fields.Number("delta2_squared");
  term.delta1 = fields.Number("delta1");
  term.share_variance = fields.Number("share_variance");
  term.shares = static_cast<uint32_t>(fields.Whole("shares", UINT32_MAX));
  term.dimension = fields.Whole("dimension");
  term.count = fields.Whole("count");
  if (!fields.ok()) return DataLoss("a mechanism with a missing or malformed field");
  return term;
}

StatusOr<SubsampledGaussian> StepsFromJson(JsonFields& fields) {
  SubsampledGaussian steps;
  steps.q = fields.Number("sampling_rate");
  steps.sigma = fields.Number("noise_multiplier");
  steps.steps = fields.Whole("steps");
  if (!fields.ok()) return DataLoss("a mechanism with a missing or malformed field");
  return steps;
}

}  // namespace

StatusOr<Price> PriceFromJson(const nlohmann::json& mechanisms) {
  Price price;
  if (!mechanisms.is_array()) return DataLoss("no mechanism");
  for (const auto& item : mechanisms) {
    JsonFields fields(item);
    if (item.is_object() && item.contains("sampling_rate")) {
      ASSIGN_OR_RETURN(const SubsampledGaussian steps, StepsFromJson(fields));
      RETURN_IF_ERROR(price.Add(steps));
    } else {
      ASSIGN_OR_RETURN(const RdpTerm term, TermFromJson(fields));
      RETURN_IF_ERROR(price.Add(term));
    }
  }
  return price;
}

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
  json["mechanisms"] = PriceToJson(charge.price);
  json["epsilon_before"] = NumberToJson(entry.epsilon_before);
  json["epsilon_after"] = NumberToJson(entry.epsilon_after);
  json["previous"] = entry.previous.hex();
  json["hash"] = entry.hash.hex();
  return json.dump();
}

StatusOr<LedgerEntry> LedgerEntryFromJson(const nlohmann::json& line) {
  ASSIGN_OR_RETURN(LedgerEntry entry, FromJson(line));
  if (HashOf(entry) != entry.hash) return DataLoss("its hash is wrong; the line was changed");
  if (nlohmann::json::parse(FormatLedgerLine(entry)) != line)
    return DataLoss("it holds what a ledger does not write");
  return entry;
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

namespace {

std::vector<LedgerCharge> ChargesInPeriod(std::span<const LedgerEntry> entries, BudgetPeriod period,
                                          Instant now) {
  std::vector<LedgerCharge> charges;
  for (const LedgerEntry& entry : entries) {
    // A clock that was set back must not free what a later year has spent.
    const bool counts = period == BudgetPeriod::kNone || YearOf(entry.time) >= YearOf(now);
    if (counts) charges.push_back(entry.charge);
  }
  return charges;
}

}  // namespace

std::optional<PrivacyUnit> OtherUnitIn(std::span<const LedgerEntry> entries, const PrivacyBudget& budget,
                                       BudgetPeriod period, Instant now) {
  for (const LedgerCharge& charge : ChargesInPeriod(entries, period, now))
    if (charge.unit != budget.unit) return charge.unit;
  return std::nullopt;
}

double SpentBy(std::span<const LedgerEntry> entries, const PrivacyBudget& budget, BudgetPeriod period,
               Instant now) {
  return EpsilonSpent(budget, ChargesInPeriod(entries, period, now));
}

StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const std::filesystem::path& path, std::string_view dataset,
                                               const PrivacyBudget& budget, BudgetPeriod period,
                                               const std::filesystem::path& anchor) {
  std::unique_ptr<Ledger> ledger(new Ledger(path, dataset, budget, period, anchor));
  ASSIGN_OR_RETURN(ledger->file_, OpenLockedForAppend(path));
  ASSIGN_OR_RETURN(const std::string text, ReadAll(ledger->file_.get(), path));
  auto entries = ParseEntries(text, path, dataset);
  if (!entries.ok()) return anchor.empty() ? entries.status() : ledger->Suspicious(Message(entries.status()));
  for (LedgerEntry& entry : *entries) ledger->Take(std::move(entry));
  if (anchor.empty()) return ledger;
  ASSIGN_OR_RETURN(const std::optional<LedgerMark> mark, ledger->ReadAnchor());
  if (mark && mark->head == ledger->head()) return ledger;
  RETURN_IF_ERROR(WriteLedgerAnchor(anchor, ledger->Mark()));
  return ledger;
}

void Ledger::Take(LedgerEntry entry) {
  AddToTotals(totals_, entry.charge);
  hash_.Update(AsBytes(FormatLedgerLine(entry) + "\n"));
  restored_ += entry.charge.kind == ChargeKind::kRestored;
  entries_.push_back(std::move(entry));
}

Status Ledger::Suspicious(std::string_view what) const {
  return FailedPrecondition(
      "{}. Nothing is charged and nothing leaves until this is settled: put the newest copy of the ledger "
      "back, or stop the worker and see `concordat ledger reconcile`",
      what);
}

/// The anchor, once it was seen that the file goes on from it.
StatusOr<std::optional<LedgerMark>> Ledger::ReadAnchor() const {
  auto mark = ReadLedgerAnchor(anchor_, dataset_);
  if (mark.status().code() == StatusCode::kDataLoss) return Suspicious(Message(mark.status()));
  RETURN_IF_ERROR(mark.status());
  if (!*mark && !entries_.empty())
    return Suspicious(fmt::format("{}: it has {} entries, and its anchor {} is gone", path_.string(),
                                  entries_.size(), anchor_.string()));
  if (*mark && !HasHead(**mark))
    return Suspicious(fmt::format(
        "{}: it is not the ledger that its anchor {} speaks of ({} entries are here, {} are anchored with "
        "epsilon {:.6g}): it was cut, edited or put back from a copy",
        path_.string(), anchor_.string(), entries_.size(), (*mark)->count, (*mark)->epsilon));
  return *std::move(mark);
}

/// That nobody but this object has written to the file, put another in its place, or touched its anchor.
Status Ledger::CheckUntouched() const {
  if (anchor_.empty()) return OkStatus();
  struct stat named {};
  struct stat open {};
  const bool same = ::stat(path_.c_str(), &named) == 0 && ::fstat(file_.get(), &open) == 0 &&
                    named.st_dev == open.st_dev && named.st_ino == open.st_ino;
  ASSIGN_OR_RETURN(const std::string text, ReadAll(file_.get(), path_));
  if (!same || crypto::Sha256(AsBytes(text)) != hash_.Current())
    return Suspicious(fmt::format("{}: it was changed while the worker had it open", path_.string()));
  return ReadAnchor().status();
}

bool Ledger::HasHead(const LedgerMark& mark) const {
  if (mark.count == 0) return mark.head == LedgerGenesis(dataset_);
  return mark.count <= entries_.size() && entries_[mark.count - 1].hash == mark.head;
}

/// How many entries come before the first one that was restored after `mark`.
size_t Ledger::Unrestored(const LedgerMark& mark) const {
  uint32_t seen = 0;
  for (size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].charge.kind == ChargeKind::kRestored && seen++ >= mark.restored) return i;
  return entries_.size();
}

bool Ledger::Holds(const LedgerMark& mark) const {
  if (HasHead(mark)) return true;
  return std::any_of(entries_.begin() + static_cast<ptrdiff_t>(Unrestored(mark)), entries_.end(),
                     [&](const LedgerEntry& entry) {
                       return entry.charge.kind == ChargeKind::kRestored &&
                              entry.charge.attempt.round >= mark.count;
                     });
}

LedgerMark Ledger::Mark() const {
  const double epsilon = entries_.empty() ? 0 : entries_.back().epsilon_after;
  return {dataset_, entries_.size(), restored_, head(), epsilon, totals_};
}

std::optional<LedgerMark> Ledger::MarkAt(const Digest& head) const {
  LedgerMark mark{dataset_, 0, 0, LedgerGenesis(dataset_), 0, {}};
  if (head == mark.head) return mark;
  for (const LedgerEntry& entry : entries_) {
    AddToTotals(mark.totals, entry.charge);
    ++mark.count;
    mark.restored += entry.charge.kind == ChargeKind::kRestored;
    mark.epsilon = entry.epsilon_after;
    mark.head = entry.hash;
    if (head == mark.head) return mark;
  }
  return std::nullopt;
}

std::vector<LedgerCharge> Ledger::InPeriod(Instant now) const {
  return ChargesInPeriod(entries_, period_, now);
}

double Ledger::Spent(Instant now) const { return SpentBy(entries_, budget_, period_, now); }

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
  RETURN_IF_ERROR(CheckUntouched());
  if (const Status fits = CanCharge(budget_, InPeriod(now), charge); !fits.ok()) {
    return Annotate(fits, fmt::format("ledger of dataset '{}'", dataset_));
  }
  ASSIGN_OR_RETURN(LedgerEntry entry, Append(now, charge));
  RETURN_IF_ERROR(Anchor());
  return entry;
}

/// The file goes first: ahead of its anchor it is believed, behind it never. What is charged stays charged,
/// also when this fails.
Status Ledger::Anchor() const { return anchor_.empty() ? OkStatus() : WriteLedgerAnchor(anchor_, Mark()); }

StatusOr<LedgerEntry> Ledger::Append(Instant now, const LedgerCharge& charge) {
  const std::vector<LedgerCharge> charges = InPeriod(now);
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
  Take(entry);
  return entry;
}

// ---- A ledger that has forgotten something.

StatusOr<std::vector<LedgerEntry>> Ledger::MakeGood(Instant now, const LedgerMark& mark) {
  if (broken_) return DataLoss("{}: an earlier write failed; start again", path_.string());
  // Cut off: what it lost is the difference. Another history of the same length or longer: nobody can tell
  // where they part, and everything that the mark knows is charged on top.
  const bool cut = mark.count > Unrestored(mark);
  std::vector<LedgerCharge> missing = HasHead(mark)
                                          ? std::vector<LedgerCharge>()
                                          : Beyond(mark.totals, cut ? totals_ : std::vector<LedgerCharge>());
  if (missing.empty()) missing.push_back({ChargeKind::kRestored, budget_.unit, budget_.neighbour, {}, {}});
  const auto found = static_cast<AttemptIndex>(entries_.size());
  std::vector<LedgerEntry> out;
  for (LedgerCharge& charge : missing) {
    charge.attempt = {mark.head, static_cast<RoundIndex>(mark.count), found};
    ASSIGN_OR_RETURN(LedgerEntry entry, Append(now, charge));
    out.push_back(std::move(entry));
  }
  RETURN_IF_ERROR(Anchor());  // once all of it is there: until then the old one says what is missing
  return out;
}

StatusOr<LedgerFinding> Ledger::Reconcile(const std::filesystem::path& path,
                                          const std::filesystem::path& anchor, std::string_view dataset,
                                          const PrivacyBudget& budget, BudgetPeriod period, Instant now,
                                          bool write) {
  Ledger ledger(path, dataset, budget, period, anchor);
  LedgerFinding finding;
  ASSIGN_OR_RETURN(ledger.file_, OpenLockedForAppend(path));
  ASSIGN_OR_RETURN(const std::string text, ReadAll(ledger.file_.get(), path));
  std::vector<LedgerEntry> entries;
  uint64_t whole = 0;
  const Status readable = ParsePrefix(text, path, dataset, &entries, &whole);
  if (readable.code() == StatusCode::kInvalidArgument) return readable;  // another dataset's
  for (LedgerEntry& entry : entries) ledger.Take(std::move(entry));
  auto mark = ReadLedgerAnchor(anchor, dataset);
  if (!mark.ok() && mark.status().code() != StatusCode::kDataLoss) return mark.status();
  finding.entries = ledger.entries_.size();
  finding.epsilon_before = ledger.Spent(now);
  finding.anchored = mark.ok() && *mark;
  const LedgerMark known = finding.anchored ? **mark : ledger.Mark();
  finding.entries_known = known.count;
  finding.epsilon_known = known.epsilon;
  for (const Status& wrong : {readable, mark.status()})
    if (!wrong.ok()) finding.wrong.emplace_back(Message(wrong));
  if (mark.ok() && !*mark && finding.entries > 0)
    finding.wrong.push_back(anchor.string() + ": there is none");
  if (!ledger.HasHead(known))
    finding.wrong.push_back(fmt::format("{}: not the ledger that its anchor speaks of", path.string()));
  if (finding.wrong.empty() || !write) return finding;
  if (!readable.ok()) {
    finding.kept = path.string() + fmt::format(".found-{}", now.time_since_epoch().count());
    RETURN_IF_ERROR(WriteFileAtomically(finding.kept, text, 0600));
    if (::ftruncate(ledger.file_.get(), static_cast<off_t>(whole)) != 0 || ::fsync(ledger.file_.get()) != 0)
      return ErrnoStatus(errno, "cannot cut", path);
  }
  RETURN_IF_ERROR(ledger.MakeGood(now, known).status());
  finding.epsilon_after = ledger.Spent(now);
  finding.written = true;
  return finding;
}

}  // namespace concordat::policy
