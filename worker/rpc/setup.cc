#include "worker/rpc/setup.h"

#include <unistd.h>

#include <algorithm>

#include "common/clock.h"
#include "common/files.h"
#include "common/process.h"
#include "policy/ledger_mark.h"
#include "policy/pairwise_key_files.h"
#include "worker/model/canaries.h"
#include "worker/model/weight_source.h"
#include "worker/rpc/worker_shell.h"
#include "worker/sandbox/lockdown.h"

namespace concordat::worker {
namespace {

bool Within(const std::filesystem::path& inner, const std::filesystem::path& outer) {
  std::error_code error;
  const auto a = std::filesystem::weakly_canonical(inner, error);
  const auto b = std::filesystem::weakly_canonical(outer, error);
  const auto [end, rest] = std::mismatch(b.begin(), b.end(), a.begin(), a.end());
  return end == b.end() || (std::next(end) == b.end() && end->empty());
}

/// Whether there is a file of a kind that a dataset is read from, with something in it.
bool HasDocuments(const std::filesystem::path& data) {
  std::error_code error;
  if (!std::filesystem::is_directory(data, error)) return std::filesystem::file_size(data, error) > 0;
  constexpr auto kSkip = std::filesystem::directory_options::skip_permission_denied;
  std::filesystem::recursive_directory_iterator entry(data, kSkip, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const auto extension = entry->path().extension();
    std::error_code gone;
    if ((extension == ".txt" || extension == ".md") && entry->is_regular_file(gone) &&
        entry->file_size(gone) > 0 && !gone)
      return true;
  }
  return false;
}

}  // namespace

Status CheckApart(const policy::WorkerConfig& config, const policy::DatasetCard& card) {
  const std::filesystem::path ledger_anchor = policy::LedgerAnchorPath(config.anchor);
  const std::filesystem::path* kept[] = {
      &config.key,           &config.state,    &config.ledger,    &config.receipts, &config.policy,
      &config.anchor,        &config.seal_key, &ledger_anchor,    &config.socket,   &config.log,
      &config.pairwise_keys, &card.split_key,  &card.canaries.key};
  const std::vector<std::filesystem::path> runtime = sandbox::RuntimePaths();
  for (const std::filesystem::path* path : kept) {
    if (path->empty()) continue;
    if (Within(*path, config.scratch))
      return InvalidArgument(
          "scratch {}: the trainer may write there, and {} lies in it: give it a folder of its own",
          config.scratch.string(), path->string());
    const bool for_trainer = path == &card.split_key || path == &card.canaries.key;
    if (!for_trainer && Within(*path, card.path))
      return InvalidArgument("dataset {}: the trainer may read there, and {} lies in it: move one of them",
                             card.path.string(), path->string());
    if (Within(*path, config.base_model))
      return InvalidArgument("base_model {}: the trainer may read there, and {} lies in it: move one of them",
                             config.base_model.string(), path->string());
    for (const std::filesystem::path& folder : runtime) {
      if (Within(*path, folder))
        return InvalidArgument("{}: the trainer may read in {}, for its libraries: move it", path->string(),
                               folder.string());
    }
  }
  const std::pair<std::string_view, const std::filesystem::path*> read_only[] = {
      {"dataset", &card.path}, {"base model", &config.base_model}};
  for (const auto& [name, path] : read_only) {
    if (Within(*path, config.scratch))
      return InvalidArgument("scratch {}: the trainer may write there, and the {} {} lies in it",
                             config.scratch.string(), name, path->string());
  }
  return OkStatus();
}

Status CheckDataset(const policy::DatasetCard& card) {
  std::error_code error;
  const std::filesystem::path& data = card.path;
  const bool folder = std::filesystem::is_directory(data, error);
  if (::access(data.c_str(), folder ? R_OK | X_OK : R_OK) != 0)
    return InvalidArgument("{} cannot be read", data.string());
  if ((card.kind == policy::DatasetCard::Kind::kJsonl) != (data.extension() == ".jsonl" && !folder))
    return InvalidArgument(
        "{}: kind jsonl is for a .jsonl file, kind text for a folder or a .txt or .md file", data.string());
  if (!HasDocuments(data)) return InvalidArgument("{} has nothing to train on", data.string());
  return OkStatus();
}

StatusOr<Digest> ReadSplitKey(const std::filesystem::path& path) {
  RETURN_IF_ERROR(CheckPrivateFile(path));
  ASSIGN_OR_RETURN(const Bytes bytes, ReadFile(path, 4096));
  auto key = Digest::From(bytes);
  if (!key.ok()) return Annotate(key.status(), path.string());
  return *key;
}

StatusOr<Digest> ReadCanaryKey(const policy::DatasetCard& card) {
  if (card.canaries.count == 0) return Digest{};
  return ReadSplitKey(card.canaries.key);
}

sandbox::Configure ConfigureTrainer(const policy::WorkerConfig& config, const policy::RegionPolicy& policy,
                                    const policy::DatasetCard& card, const TrainerSecrets& secrets,
                                    const Digest& base_model) {
  static_assert(policy::kFewestCanaries == model::kFewestCanaries &&
                policy::kMostCanaries == model::kMostCanaries);
  sandbox::Configure configure;
  configure.base_model = config.base_model.string();
  configure.base_model_sha256 = base_model;
  configure.dataset = card.path.string();
  configure.dataset_kind = card.kind == policy::DatasetCard::Kind::kText ? 1 : 0;
  if (card.privacy.unit == PrivacyUnit::kPerson) configure.person_field = card.person_id_field;
  if (card.privacy.unit != PrivacyUnit::kSite)
    configure.promise = sandbox::UnitPromise{TrainerUnit(card.privacy.unit), card.privacy.delta};
  configure.split_key = secrets.split_key;
  configure.held_out_permille = card.held_out_permille;
  configure.canaries = card.canaries.count;
  configure.canary_key = secrets.canary_key;
  configure.device = config.device;
  configure.threads = config.threads;
  configure.sandbox_required = policy.sandbox == policy::SandboxMode::kRequired;
  return configure;
}

StatusOr<WorkerSetup> LoadSetup(const std::string& config_path, Instant now) {
  WorkerSetup setup;
  ASSIGN_OR_RETURN(setup.config, OfOwnFile(policy::LoadWorkerConfig(config_path)));
  const policy::WorkerConfig& config = setup.config;
  ASSIGN_OR_RETURN(setup.charter,
                   policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash));
  ASSIGN_OR_RETURN(setup.policy, policy::LoadRegionPolicy(config.policy.string()));
  ASSIGN_OR_RETURN(setup.card, policy::LoadDatasetCard(config.dataset_card.string()));
  ASSIGN_OR_RETURN(setup.chain, OfOwnFile(ReadTextFile(config.certificate, crypto::kMaxChainBytes)));
  RETURN_IF_ERROR(CheckApart(config, setup.card));
  RETURN_IF_ERROR(Annotate(CheckDataset(setup.card), config.dataset_card.string() + ": path"));
  RETURN_IF_ERROR(OfOwnFile(CheckPrivateFile(config.key)));
  ASSIGN_OR_RETURN(setup.key_pem, OfOwnFile(ReadTextFile(config.key, 1 << 16)));
  auto peer = policy::CheckPeer(setup.charter.charter, setup.chain, now);
  if (!peer.ok()) return Annotate(peer.status(), config.certificate.string());
  if (peer->id.role() != Role::kWorker)
    return PermissionDenied("{}: expected a worker's certificate, this one is {}",
                            config.certificate.string(), peer->id.ToString());
  const auto key = crypto::SigningKey::FromPem(AsBytes(setup.key_pem));
  if (!key.ok()) return Annotate(key.status(), config.key.string());
  if (key->Public().KeyHash() != peer->key_hash)
    return PermissionDenied("{}: not the key of {}", config.key.string(), config.certificate.string());
  setup.self = peer->id;
  if (!config.pairwise_keys.empty()) {
    ASSIGN_OR_RETURN(setup.pairwise, OfOwnFile(policy::LoadPairwiseKeys(config.pairwise_keys, setup.self)));
  }
  ASSIGN_OR_RETURN(setup.secrets.split_key, OfOwnFile(ReadSplitKey(setup.card.split_key)));
  ASSIGN_OR_RETURN(setup.secrets.canary_key, OfOwnFile(ReadCanaryKey(setup.card)));
  ASSIGN_OR_RETURN(setup.base_model, model::HashModel(config.base_model));
  ASSIGN_OR_RETURN(const auto weights, model::OpenWeights(config.base_model));
  setup.base_shape = weights->config().shape;
  setup.address = config.coordinator_address.empty() ? setup.charter.charter.coordinator.address
                                                     : config.coordinator_address;
  setup.trainer = config.trainer;
  if (setup.trainer.empty()) {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (error) return ErrnoStatus(error.value(), "cannot read", "/proc/self/exe");
    setup.trainer = self.parent_path() / "concordat-trainer";
  }
  return setup;
}

}  // namespace concordat::worker
