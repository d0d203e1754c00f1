#include "cli/adapter_chain.h"

#include <nlohmann/json.hpp>
#include <set>

#include "aggregation/adapter_steps.h"
#include "aggregation/peft.h"
#include "cli/released_privacy.h"
#include "common/files.h"
#include "policy/job.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormat = "concordat-chain/1";
constexpr uint64_t kBlobHeaderBytes = 8 + 32 + 4 + 32 + 32 + 8;

std::vector<std::string> Names(const google::protobuf::RepeatedPtrField<std::string>& names) {
  std::vector<std::string> out;
  for (const auto& name : names) out.push_back(Printable(name));
  return out;
}

StatusOr<Digest> DigestAt(const nlohmann::json& json, const char* key) {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_string())
    return InvalidArgument("{}: expected a SHA-256 in hexadecimal", key);
  auto digest = Digest::FromHexText(it->get<std::string>());
  if (!digest.ok()) return InvalidArgument("{}: expected a SHA-256 in hexadecimal", key);
  return digest;
}
StatusOr<uint32_t> NumberAt(const nlohmann::json& json, const char* key) {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_number_unsigned() || it->get<uint64_t>() > UINT32_MAX) {
    return InvalidArgument("{}: expected a number from 0 to 2^32 - 1", key);
  }
  return it->get<uint32_t>();
}
std::vector<std::string> NamesAt(const nlohmann::json& json, const char* key) {
  std::vector<std::string> out;
  if (const auto it = json.find(key); it != json.end() && it->is_array()) {
    for (const auto& name : *it)
      if (name.is_string()) out.push_back(Printable(name.get<std::string>()));
  }
  return out;
}

ordered_json RoundJson(const ChainRound& round) {
  return {{"round", round.round},
          {"attempt", round.attempt},
          {"adapter", round.adapter.hex()},
          {"parent", round.parent.hex()},
          {"sum_sha256", round.sum_sha256.hex()},
          {"survivors", round.survivors},
          {"missing", round.missing}};
}

StatusOr<ChainRound> ReadRound(const nlohmann::json& json) {
  ChainRound round;
  ASSIGN_OR_RETURN(round.round, NumberAt(json, "round"));
  ASSIGN_OR_RETURN(round.attempt, NumberAt(json, "attempt"));
  constexpr uint32_t kMost = policy::JobSpec::Cohort::kMostAttempts;
  if (round.attempt >= kMost) return InvalidArgument("attempt: expected less than {}", kMost);
  ASSIGN_OR_RETURN(round.adapter, DigestAt(json, "adapter"));
  ASSIGN_OR_RETURN(round.parent, DigestAt(json, "parent"));
  ASSIGN_OR_RETURN(round.sum_sha256, DigestAt(json, "sum_sha256"));
  round.survivors = NamesAt(json, "survivors");
  round.missing = NamesAt(json, "missing");
  return round;
}

}  // namespace

StatusOr<ChainRecord> ChainRecordOf(const JobId& job, const std::string& submitter,
                                    const pb::RoundsReply& reply) {
  ChainRecord record;
  record.job = job;
  record.submitter = submitter;
  record.job_file = reply.job_file();
  record.initial_adapter = DigestOf(reply.initial_adapter());
  for (const auto& r : reply.rounds()) {
    record.rounds.push_back({r.round(), r.attempt(), DigestOf(r.adapter()), DigestOf(r.parent()),
                             DigestOf(r.sum_sha256()), Names(r.survivors()), Names(r.missing())});
  }
  return record;
}

StatusOr<VerifiedAdapter> VerifyChain(const ChainRecord& record, uint32_t rounds, const BlobSource& source) {
  ASSIGN_OR_RETURN(const SpiffeId submitter, SpiffeId::Parse(record.submitter));
  if (policy::JobIdOf(record.job_file, submitter) != record.job) {
    return DataLoss("the job file is not that of job {}, submitted by {}", record.job.brief(),
                    submitter.ToString());
  }
  if (rounds > record.rounds.size()) {
    return InvalidArgument("job {} has {} finished rounds: there is no adapter of round {}",
                           record.job.brief(), record.rounds.size(), rounds);
  }
  VerifiedAdapter now;
  ASSIGN_OR_RETURN(now.job, policy::ParseJob(record.job_file, kJobFile));
  ASSIGN_OR_RETURN(now.layout, AdapterLayout::Make(now.job.base_model.shape, now.job.adapter));
  ASSIGN_OR_RETURN(now.blob, FirstAdapter(now.layout, record.job, now.job.seed));
  now.hash = AdapterHash(EncodeAdapterBlob(now.blob));
  if (now.hash != record.initial_adapter) {
    return DataLoss("the first adapter: the job's seed gives {}, the record says {}", now.hash.brief(),
                    record.initial_adapter.brief());
  }
  const uint64_t max_bytes = kBlobHeaderBytes + now.layout.adapter_elements() * sizeof(float);
  for (uint32_t i = 0; i < rounds; ++i) {
    const ChainRound& link = record.rounds[i];
    const std::string where = fmt::format("round {}", i + 1);
    if (link.round != i) return DataLoss("{}: the record has round {} in its place", where, link.round + 1);
    if (link.parent != now.hash) {
      return DataLoss("{}: its adapter is said to follow {}, but the one before is {}", where,
                      link.parent.brief(), now.hash.brief());
    }
    const auto bytes = source(link.adapter, max_bytes);
    if (!bytes.ok() && bytes.status().code() == StatusCode::kNotFound) {
      return DataLoss("{}: adapter {} is not there. Next: concordat adapter pull", where,
                      link.adapter.brief());
    }
    RETURN_IF_ERROR(bytes.status());
    if (const Digest found = AdapterHash(*bytes); found != link.adapter) {
      return DataLoss("{}: the adapter has hash {}, the record says {}", where, found.brief(),
                      link.adapter.brief());
    }
    auto blob = DecodeAdapterBlob(*bytes, now.layout);
    if (!blob.ok()) return DataLoss("{}: {}", where, Message(blob.status()));
    if (const Status follows = CheckChain(now.blob, now.hash, *blob); !follows.ok()) {
      return Annotate(follows, where);
    }
    RETURN_IF_ERROR(CheckFrozen(now.layout, now.blob, *blob));
    now.blob = *std::move(blob);
    now.hash = link.adapter;
  }
  return now;
}

std::filesystem::path BlobPath(const std::filesystem::path& folder, const Digest& hash) {
  return folder / "chain" / (hash.hex() + ".adapter");
}

Status CheckAdapterFolder(const std::filesystem::path& folder, const ChainRecord& record) {
  const auto in_the_way = [](const std::filesystem::path& what) {
    return AlreadyExists(
        "{} is there already and not of this job; nothing was written: name another folder, or an empty one",
        what.string());
  };
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return OkStatus();
  if (!std::filesystem::is_directory(folder, error)) return in_the_way(folder);
  // A finished pull says whose it is; before that there are blobs alone.
  bool ours = false;
  if (std::filesystem::exists(folder / kChainFile, error)) {
    const auto there = ReadAdapterFolder(folder);
    if (!there.ok() || there->record.job != record.job) return in_the_way(folder / kChainFile);
    ours = true;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!ours && entry.path().filename() != "chain") return in_the_way(entry.path());
  }
  std::set<std::string> blobs;
  for (const ChainRound& round : record.rounds) blobs.insert(BlobPath(folder, round.adapter).filename());
  for (const auto& entry : std::filesystem::directory_iterator(folder / "chain", error)) {
    std::filesystem::path name = entry.path().filename();
    if (name.extension() == ".part") name = name.stem();
    if (!blobs.contains(name)) return in_the_way(entry.path());
  }
  return OkStatus();
}

Status WriteAdapterFolder(const std::filesystem::path& folder, const ChainRecord& record,
                          const VerifiedAdapter& adapter,
                          std::vector<policy::SignedLedgerStatement> statements) {
  ASSIGN_OR_RETURN(const ReleasedPrivacy privacy,
                   PrivacyOf(record, adapter.blob.round, adapter.hash, std::move(statements)));
  RETURN_IF_ERROR(WritePeftFolder(folder, adapter.layout, adapter.blob.weights, adapter.job.base_model.name));
  ASSIGN_OR_RETURN(const Digest weights, crypto::Sha256File(folder / kPeftWeightsFile));
  ordered_json rounds = ordered_json::array();
  for (uint32_t i = 0; i < adapter.blob.round; ++i) rounds.push_back(RoundJson(record.rounds[i]));
  const ordered_json chain = {{"format", kFormat},
                              {"job", record.job.hex()},
                              {"name", adapter.job.name},
                              {"submitter", record.submitter},
                              {"charter", adapter.job.charter.hex()},
                              {"base_model",
                               {{"name", adapter.job.base_model.name},
                                {"sha256", adapter.job.base_model.sha256.hex()},
                                {"license", adapter.job.base_model.license}}},
                              {"seed", adapter.job.seed},
                              {"layout", LayoutDigest(adapter.layout).hex()},
                              {"initial_adapter", record.initial_adapter.hex()},
                              {"rounds", rounds},
                              {"adapter", adapter.hash.hex()},
                              {"rounds_done", adapter.blob.round},
                              {"attempts_begun", privacy.price.attempts},
                              {"weights_sha256", weights.hex()}};
  RETURN_IF_ERROR(WriteFileAtomically(folder / kJobFile, record.job_file));
  RETURN_IF_ERROR(WritePrivacy(folder, privacy));
  return WriteFileAtomically(folder / kChainFile, chain.dump(2) + "\n");
}

StatusOr<AdapterFolder> ReadAdapterFolder(const std::filesystem::path& folder) {
  const std::string file = (folder / kChainFile).string();
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(folder / kChainFile, 64 << 20));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const auto read = [&]() -> StatusOr<AdapterFolder> {
    if (!json.is_object() || json.value("format", nlohmann::json()) != kFormat) {
      return InvalidArgument("expected an object with format {}", kFormat);
    }
    AdapterFolder out;
    ASSIGN_OR_RETURN(out.record.job, DigestAt(json, "job"));
    ASSIGN_OR_RETURN(out.record.initial_adapter, DigestAt(json, "initial_adapter"));
    ASSIGN_OR_RETURN(out.rounds, NumberAt(json, "rounds_done"));
    ASSIGN_OR_RETURN(out.weights_sha256, DigestAt(json, "weights_sha256"));
    const auto submitter = json.find("submitter");
    if (submitter == json.end() || !submitter->is_string())
      return InvalidArgument("submitter: expected text");
    out.record.submitter = submitter->get<std::string>();
    const auto rounds = json.find("rounds");
    if (rounds == json.end() || !rounds->is_array()) return InvalidArgument("rounds: expected a list");
    for (const auto& round : *rounds) {
      ASSIGN_OR_RETURN(out.record.rounds.emplace_back(), ReadRound(round));
    }
    return out;
  };
  auto out = read();
  if (!out.ok()) return Annotate(out.status(), file);
  ASSIGN_OR_RETURN(out->record.job_file, ReadTextFile(folder / kJobFile, policy::kMaxJobFileBytes));
  return out;
}

StatusOr<VerifiedAdapter> VerifyAdapterFolder(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const AdapterFolder claimed, ReadAdapterFolder(folder));
  if (claimed.rounds != claimed.record.rounds.size()) {
    return DataLoss("{}: {} rounds listed, rounds_done says {}", (folder / kChainFile).string(),
                    claimed.record.rounds.size(), claimed.rounds);
  }
  ASSIGN_OR_RETURN(const VerifiedAdapter adapter,
                   VerifyChain(claimed.record, claimed.rounds, [&](const Digest& hash, uint64_t max_bytes) {
                     return ReadFile(BlobPath(folder, hash), max_bytes);
                   }));
  ASSIGN_OR_RETURN(const Bytes expected, PeftWeights(adapter.layout, adapter.blob.weights));
  ASSIGN_OR_RETURN(const Bytes found, ReadFile(folder / kPeftWeightsFile, expected.size() + 4096));
  if (found != expected) {
    return DataLoss("{}: not the weights of adapter {}", (folder / kPeftWeightsFile).string(),
                    adapter.hash.brief());
  }
  ASSIGN_OR_RETURN(const std::string config, ReadTextFile(folder / kPeftConfigFile, 1 << 20));
  if (config != PeftConfig(adapter.layout, adapter.job.base_model.name)) {
    return DataLoss("{}: not the config of adapter {}", (folder / kPeftConfigFile).string(),
                    adapter.hash.brief());
  }
  return adapter;
}

}  // namespace concordat::cli
