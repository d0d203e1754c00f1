#include "cli/released_privacy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "aggregation/strict_json.h"
#include "cli/statement_check.h"
#include "common/files.h"
#include "policy/node_config.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;
using policy::LedgerEntry;
using policy::LedgerStatement;
using policy::SignedLedgerStatement;

// ---- Figures.

/// \pre `statement` passed CheckStatement
Status Charge(const ReleasedPrivacy& privacy, SignedLedgerStatement statement, RegionPrivacy& out) {
  const LedgerStatement& body = statement.body;
  out.unit = body.unit;
  out.neighbour = body.neighbour;
  out.delta = body.delta;
  out.honest_survivors = 0;
  std::vector<LedgerCharge> local, together, all;
  for (const LedgerEntry& row : body.rows) {
    const bool restored = row.charge.kind == ChargeKind::kRestored;
    if (!restored && row.charge.attempt.job != body.job) continue;
    all.push_back(row.charge);
    out.restored += restored;
    out.evaluations += row.charge.kind == ChargeKind::kEvaluation;
    const bool attempt = row.charge.kind == ChargeKind::kDelta && row.charge.attempt.round < privacy.rounds;
    if (!attempt && !restored) continue;
    together.push_back(row.charge);
    local.push_back(row.charge);
    out.attempts += attempt;
    out.honest_survivors = std::max(out.honest_survivors, SharesOf(row.charge.price));
    ASSIGN_OR_RETURN(local.back().price, InShares(row.charge.price, 1, false));
  }
  const PrivacyBudget at{body.unit, body.neighbour, std::numeric_limits<double>::infinity(), body.delta};
  out.epsilon_local = EpsilonSpent(at, local);
  out.epsilon_charged = EpsilonSpent(at, all);
  out.epsilon_distributed.reset();
  if (privacy.job.privacy.noise == policy::NoisePlacement::kDistributed)
    out.epsilon_distributed = EpsilonSpent(at, together);
  else
    out.honest_survivors = 0;
  out.statement = std::move(statement);
  return OkStatus();
}

RegionPrivacy Planned(const std::string& worker, const PrivacyStatement& plan) {
  RegionPrivacy out;
  out.worker = worker;
  out.unit = plan.unit;
  out.neighbour = plan.neighbour;
  out.delta = plan.delta;
  out.epsilon_local = plan.epsilon_local;
  out.epsilon_distributed = plan.epsilon_distributed;
  out.honest_survivors = plan.honest_survivors;
  return out;
}

ordered_json ToJson(const RegionPrivacy& region) {
  const bool charged = region.statement.has_value();
  const auto known = [&](auto value) { return charged ? ordered_json(value) : ordered_json(); };
  ordered_json json = {{"worker", region.worker},
                       {"source", charged ? "ledger" : "plan"},
                       {"rounds", region.rounds},
                       {"unit", PrivacyUnitText(region.unit)},
                       {"neighbour", NeighbourText(region.neighbour)},
                       {"epsilon_local", NumberJson(region.epsilon_local)}};
  json["epsilon_distributed"] =
      region.epsilon_distributed ? NumberJson(*region.epsilon_distributed) : ordered_json();
  json["honest_survivors"] = region.honest_survivors;
  json["delta"] = region.delta;
  json["epsilon_charged"] = charged ? NumberJson(region.epsilon_charged) : ordered_json();
  json["attempts_charged"] = known(region.attempts);
  json["evaluations_charged"] = known(region.evaluations);
  json["restored"] = known(region.restored);
  json["ledger"] = charged ? ordered_json(region.statement->body.head.hex()) : ordered_json();
  json["statement"] = charged ? policy::ToJson(*region.statement) : ordered_json();
  return json;
}

std::string RegionsText(const ReleasedPrivacy& privacy) {
  const auto charged =
      std::ranges::count_if(privacy.regions, [](const RegionPrivacy& r) { return r.statement.has_value(); });
  return fmt::format(
      "{} of {} regions have handed out a signed statement of their ledger: their figures are what they were "
      "charged, aborted attempts and evaluations included, and follow from the statement's rows. The others' "
      "are the plan's.",
      charged, privacy.regions.size());
}

// ---- Reading it back.

bool Close(const nlohmann::json& a, const nlohmann::json& b) {
  if (!a.is_number() || !b.is_number()) return a == b;
  const double x = a.get<double>(), y = b.get<double>();
  return std::abs(x - y) <= 1e-9 * std::max(std::abs(x), std::abs(y));
}

/// The first key of `expected`, but for sentences and statements, where `found` differs; empty: none.
std::string Difference(const nlohmann::json& expected, const nlohmann::json& found) {
  static const std::set<std::string> kPassed = {"prices_text", "regions_text", "regions", "statement"};
  for (const auto& [key, value] : expected.items()) {
    if (kPassed.contains(key)) continue;
    if (!found.is_object() || !found.contains(key) || !Close(value, found.at(key))) return key;
  }
  return "";
}

StatusOr<nlohmann::json> ReadPrivacyFile(const std::filesystem::path& folder) {
  const auto file = folder / kPrivacyFile;
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file, kMaxPrivacyBytes));
  ASSIGN_OR_RETURN(nlohmann::json json, ParseStrictJson(text, file.string()));
  if (!json.is_object()) return InvalidArgument("{}: expected an object", file.string());
  return json;
}

}  // namespace

uint32_t AttemptsOf(const ChainRecord& record, uint32_t rounds) {
  uint32_t attempts = 0;
  for (uint32_t i = 0; i < rounds; ++i) attempts += record.rounds[i].attempt + 1;
  return attempts;
}

StatusOr<ReleasedPrivacy> PrivacyOf(const ChainRecord& record, uint32_t rounds, const Digest& adapter,
                                    std::vector<SignedLedgerStatement> statements) {
  if (rounds > record.rounds.size())
    return InvalidArgument("{} rounds of a record of {}", rounds, record.rounds.size());
  ReleasedPrivacy out;
  ASSIGN_OR_RETURN(out.job, policy::ParseJob(record.job_file, kJobFile));
  out.record = record;
  out.rounds = rounds;
  out.adapter = adapter;
  // An adapter may leave with fewer rounds than its job has: its own rounds are priced, and how often those
  // were tried.
  uint32_t sites = 0;
  for (uint32_t i = 0; i < rounds; ++i) sites = std::max(sites, record.rounds[i].roster());
  ASSIGN_OR_RETURN(out.price, PriceOf(out.job, rounds, AttemptsOf(record, rounds), sites));
  std::map<std::string, RegionPrivacy> regions;
  const auto region = [&](const std::string& worker) -> RegionPrivacy& {
    return regions.try_emplace(worker, Planned(worker, out.price.plan)).first->second;
  };
  for (uint32_t i = 0; i < rounds; ++i)
    for (const std::string& worker : record.rounds[i].survivors) ++region(worker).rounds;
  for (SignedLedgerStatement& statement : statements) {
    const std::string worker = statement.body.worker.ToString();
    const std::string what = "the ledger statement of " + worker;
    RETURN_IF_ERROR(Annotate(CheckStatement(out.job, record, rounds, statement.body), what));
    RETURN_IF_ERROR(Annotate(Charge(out, std::move(statement), region(worker)), what));
  }
  for (auto& [worker, privacy] : regions) out.regions.push_back(std::move(privacy));
  return out;
}

ordered_json ToJson(const ReleasedPrivacy& privacy) {
  ordered_json json = ToJson(privacy.price);
  json["job"] = privacy.record.job.hex();
  json["adapter"] = privacy.adapter.hex();
  json["regions_text"] = RegionsText(privacy);
  json["regions"] = ordered_json::array();
  for (const RegionPrivacy& region : privacy.regions) json["regions"].push_back(ToJson(region));
  return json;
}

Status WritePrivacy(const std::filesystem::path& folder, const ReleasedPrivacy& privacy, bool merged) {
  RETURN_IF_ERROR(WriteFileAtomically(folder / kPrivacyFile, ToJson(privacy).dump(2) + "\n"));
  return WriteFileAtomically(folder / kCardFile, ModelCard(privacy, merged));
}

Status WritePrivacyBeside(const std::filesystem::path& file, const ReleasedPrivacy& privacy) {
  const auto beside = [&](const char* name) {
    return std::filesystem::path(file.string() + "." + std::string(name));
  };
  RETURN_IF_ERROR(WriteFileAtomically(beside(kPrivacyFile), ToJson(privacy).dump(2) + "\n"));
  return WriteFileAtomically(beside(kCardFile), ModelCard(privacy, false));
}

StatusOr<std::vector<SignedLedgerStatement>> ReadStatements(const std::filesystem::path& folder) {
  std::vector<SignedLedgerStatement> out;
  const auto json = ReadPrivacyFile(folder);
  if (json.status().code() == StatusCode::kNotFound) return out;
  RETURN_IF_ERROR(json.status());
  const std::string file = (folder / kPrivacyFile).string();
  const auto regions = json->find("regions");
  if (regions == json->end()) return out;
  if (!regions->is_array()) return InvalidArgument("{}: regions: expected a list", file);
  for (const auto& region : *regions) {
    if (!region.is_object() || !region.contains("statement"))
      return InvalidArgument("{}: regions: expected objects with a statement, or null for one", file);
    if (region.at("statement").is_null()) continue;
    auto statement = policy::ReadLedgerStatement(region.at("statement"));
    if (!statement.ok()) return Annotate(statement.status(), file);
    out.push_back(*std::move(statement));
  }
  return out;
}

StatusOr<ReleasedPrivacy> PrivacyOfFolder(const std::filesystem::path& folder, const AdapterFolder& chain,
                                          const policy::SignedCharter* charter) {
  ASSIGN_OR_RETURN(auto statements, ReadStatements(folder));
  for (const SignedLedgerStatement& statement : statements) {
    const Status good = charter == nullptr ? policy::VerifyLedgerStatement(statement)
                                           : policy::VerifyLedgerStatement(statement, *charter);
    if (!good.ok())
      return Annotate(good, fmt::format("{}: the ledger statement of {}", (folder / kPrivacyFile).string(),
                                        statement.body.worker.ToString()));
  }
  const ChainRecord& record = chain.record;
  if (chain.rounds > record.rounds.size())
    return DataLoss("{}: {} rounds listed, rounds_done says {}", (folder / kChainFile).string(),
                    record.rounds.size(), chain.rounds);
  const Digest adapter = chain.rounds == 0 ? record.initial_adapter : record.rounds[chain.rounds - 1].adapter;
  return PrivacyOf(record, chain.rounds, adapter, std::move(statements));
}

StatusOr<std::optional<policy::SignedCharter>> CharterOfJob(const Context& context, const std::string& file,
                                                            const Digest& charter) {
  if (file.empty() && context.config.empty()) return std::optional<policy::SignedCharter>();
  policy::SignedCharter out;
  if (!file.empty()) {
    ASSIGN_OR_RETURN(out, policy::LoadSignedCharter(file));
    RETURN_IF_ERROR(Annotate(policy::VerifyCharter(out), file));
    if (out.hash != charter)
      return PermissionDenied("{}: the job ran under charter {}, this one is {}", file, charter.brief(),
                              out.hash.brief());
  } else {
    ASSIGN_OR_RETURN(const policy::OperatorConfig config, policy::LoadOperatorConfig(context.config));
    // Whoever looks at somebody else's adapter has a config of no use here.
    if (config.charter.hash != charter) return std::optional<policy::SignedCharter>();
    ASSIGN_OR_RETURN(out, policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash));
  }
  return std::optional<policy::SignedCharter>(std::move(out));
}

Status CheckPrivacyFile(const std::filesystem::path& folder, const ReleasedPrivacy& privacy) {
  const std::string file = (folder / kPrivacyFile).string();
  const auto found = ReadPrivacyFile(folder);
  if (!found.ok()) return DataLoss("{}", Message(found.status()));
  const auto regions = found->find("regions");
  if (regions == found->end()) return OkStatus();
  const nlohmann::json expected(ToJson(privacy));
  if (const std::string key = Difference(expected, *found); !key.empty())
    return DataLoss(
        "{}: {} is not what the chain and the regions' statements give. Next: concordat adapter pull", file,
        key);
  const auto& due = expected.at("regions");
  if (!regions->is_array() || regions->size() != due.size())
    return DataLoss("{}: expected {} regions", file, due.size());
  for (size_t i = 0; i < due.size(); ++i)
    if (const std::string key = Difference(due[i], (*regions)[i]); !key.empty())
      return DataLoss("{}: {} of {} is not what the chain and the region's statement give", file, key,
                      privacy.regions[i].worker);
  return OkStatus();
}

Status AddStatement(std::vector<SignedLedgerStatement>& statements, SignedLedgerStatement added) {
  const auto there = std::ranges::find_if(
      statements, [&](const SignedLedgerStatement& s) { return s.body.worker == added.body.worker; });
  if (there == statements.end()) {
    statements.push_back(std::move(added));
    return OkStatus();
  }
  RETURN_IF_ERROR(policy::CheckFollows(there->body, added.body));
  *there = std::move(added);
  return OkStatus();
}

}  // namespace concordat::cli
