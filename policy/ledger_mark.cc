#include "policy/ledger_mark.h"

#include <algorithm>

#include "aggregation/strict_json.h"
#include "common/files.h"
#include "policy/ledger_json.h"
#include "privacy/crypto/hash.h"

namespace concordat::policy {
namespace {

constexpr std::string_view kFormat = "concordat-ledger-anchor v1";
constexpr uint64_t kMaxBytes = 16u << 20;
constexpr size_t kMaxTotals = 9;  // units times neighbour relations
constexpr size_t kMaxName = 1024;

bool SamePrice(const LedgerCharge& a, const LedgerCharge& b) {
  return a.unit == b.unit && a.neighbour == b.neighbour;
}

const LedgerCharge* TotalOf(const std::vector<LedgerCharge>& totals, const LedgerCharge& like) {
  const auto it = std::ranges::find_if(totals, [&](const LedgerCharge& t) { return SamePrice(t, like); });
  return it == totals.end() ? nullptr : &*it;
}

/// How often `price` holds a release like `term`.
uint64_t CountOf(const Price& price, RdpTerm term) {
  uint64_t count = 0;
  for (const RdpTerm& t : price.curve().terms()) {
    term.count = t.count;
    if (t == term) count += t.count;
  }
  return count;
}
uint64_t CountOf(const Price& price, const SubsampledGaussian& steps) {
  uint64_t count = 0;
  for (const SubsampledGaussian& s : price.steps())
    if (s.q == steps.q && s.sigma == steps.sigma) count += s.steps;
  return count;
}

/// What `known` holds beyond `found`.
Price Beyond(const Price& known, const Price& found) {
  Price out;
  // All of it was accepted before.
  for (RdpTerm term : known.curve().terms()) {
    const uint64_t there = CountOf(found, term);
    term.count -= std::min(term.count, there);
    (void)out.Add(term);
  }
  for (SubsampledGaussian steps : known.steps()) {
    const uint64_t there = CountOf(found, steps);
    steps.steps -= std::min(steps.steps, there);
    (void)out.Add(steps);
  }
  return out;
}

Digest HashOf(const LedgerMark& mark) {
  CanonicalWriter out;
  WriteMark(out, mark);
  return crypto::TaggedHash("concordat/v1/ledger-anchor", out.bytes());
}

std::string Format(const LedgerMark& mark) {
  nlohmann::ordered_json json;
  json["format"] = kFormat;
  json["dataset"] = mark.dataset;
  json["count"] = mark.count;
  json["restored"] = mark.restored;
  json["head"] = mark.head.hex();
  json["epsilon"] = NumberToJson(mark.epsilon);
  json["totals"] = nlohmann::ordered_json::array();
  for (const LedgerCharge& total : mark.totals)
    json["totals"].push_back({{"unit", PrivacyUnitText(total.unit)},
                              {"neighbour", NeighbourText(total.neighbour)},
                              {"mechanisms", PriceToJson(total.price)}});
  json["hash"] = HashOf(mark).hex();
  return json.dump() + "\n";
}

StatusOr<std::vector<LedgerCharge>> TotalsFrom(const nlohmann::json& json) {
  std::vector<LedgerCharge> out;
  if (!json.is_array()) return DataLoss("no totals");
  for (const auto& item : json) {
    JsonFields fields(item);
    const auto unit = ParsePrivacyUnit(fields.Text("unit"));
    const auto neighbour = ParseNeighbour(fields.Text("neighbour"));
    const auto price = PriceFromJson(fields.Child("mechanisms"));
    if (!fields.ok() || !unit.ok() || !neighbour.ok() || !price.ok()) return DataLoss("a total is malformed");
    out.push_back({ChargeKind::kRestored, *unit, *neighbour, {}, *price});
  }
  return out;
}

StatusOr<LedgerMark> Parse(std::string_view text) {
  if (!text.ends_with('\n')) return DataLoss("it is incomplete");
  const auto json = ParseStrictJson(text.substr(0, text.size() - 1), "ledger anchor");
  if (!json.ok()) return DataLoss("{}", Message(json.status()));
  JsonFields fields(*json);
  LedgerMark mark;
  const std::string format = fields.Text("format");
  mark.dataset = fields.Text("dataset");
  mark.count = fields.Whole("count");
  mark.restored = static_cast<uint32_t>(fields.Whole("restored", UINT32_MAX));
  mark.head = fields.Hash("head");
  mark.epsilon = fields.Number("epsilon");
  const auto totals = TotalsFrom(fields.Child("totals"));
  const Digest hash = fields.Hash("hash");
  if (!fields.ok() || format != kFormat) return DataLoss("a field is missing or malformed");
  RETURN_IF_ERROR(totals.status());
  mark.totals = *totals;
  if (HashOf(mark) != hash) return DataLoss("its hash is wrong; it was changed");
  if (Format(mark) != text) return DataLoss("it is not written as a ledger writes it");
  return mark;
}

}  // namespace

void AddToTotals(std::vector<LedgerCharge>& totals, const LedgerCharge& charge) {
  auto it = std::ranges::find_if(totals, [&](const LedgerCharge& t) { return SamePrice(t, charge); });
  if (it == totals.end())
    it = totals.insert(it, {ChargeKind::kRestored, charge.unit, charge.neighbour, {}, {}});
  it->price.Add(charge.price);
}

std::vector<LedgerCharge> Beyond(const std::vector<LedgerCharge>& known,
                                 const std::vector<LedgerCharge>& found) {
  std::vector<LedgerCharge> out;
  for (const LedgerCharge& total : known) {
    const LedgerCharge* has = TotalOf(found, total);
    const LedgerCharge missing{ChargeKind::kRestored,
                               total.unit,
                               total.neighbour,
                               {},
                               Beyond(total.price, has == nullptr ? Price() : has->price)};
    if (!missing.price.empty()) out.push_back(missing);
  }
  return out;
}

bool FitsCanonically(const LedgerMark& mark) {
  size_t terms = 0;
  for (const LedgerCharge& total : mark.totals) terms += total.price.size();
  return terms <= kMaxMarkTerms;
}

void WriteMark(CanonicalWriter& out, const LedgerMark& mark) {
  out.Text(mark.dataset);
  out.U64(mark.count);
  out.U32(mark.restored);
  out.Put(mark.head);
  out.F64(mark.epsilon);
  out.Count(mark.totals.size());
  for (const LedgerCharge& total : mark.totals) WriteCharge(out, total);
}

StatusOr<LedgerMark> ReadMark(CanonicalReader& in) {
  LedgerMark mark;
  mark.dataset = in.Text(kMaxName);
  mark.count = in.U64();
  mark.restored = in.U32();
  mark.head = in.Hash();
  mark.epsilon = in.F64();
  const size_t totals = in.Count(kMaxTotals);
  for (size_t i = 0; i < totals && in.status().ok(); ++i) {
    ASSIGN_OR_RETURN(LedgerCharge total, ReadCharge(in));
    if (total.kind != ChargeKind::kRestored || TotalOf(mark.totals, total) != nullptr)
      in.Fail("a ledger's total of another kind, or twice");
    mark.totals.push_back(std::move(total));
  }
  RETURN_IF_ERROR(in.status());
  return mark;
}

StatusOr<std::optional<LedgerMark>> ReadLedgerAnchor(const std::filesystem::path& path,
                                                     std::string_view dataset) {
  const auto text = ReadTextFile(path, kMaxBytes);
  if (text.status().code() == StatusCode::kNotFound) return std::optional<LedgerMark>();
  RETURN_IF_ERROR(text.status());
  auto mark = Parse(*text);
  if (!mark.ok()) return DataLoss("{}: no anchor of a ledger: {}", path.string(), Message(mark.status()));
  if (mark->dataset != dataset)
    return InvalidArgument("{}: this anchor is of dataset '{}', not '{}'", path.string(),
                           mark->dataset.substr(0, 64), dataset);
  return std::optional<LedgerMark>(*std::move(mark));
}

Status WriteLedgerAnchor(const std::filesystem::path& path, const LedgerMark& mark) {
  return WriteFileAtomically(path, Format(mark), 0600);
}

std::filesystem::path LedgerAnchorPath(const std::filesystem::path& journal_anchor) {
  return journal_anchor.string() + ".ledger";
}

}  // namespace concordat::policy
