#include <sys/stat.h>

#include "common/clock.h"
#include "worker/model/weight_source.h"
#include "worker/rpc/worker_shell.h"

namespace concordat::worker {
namespace {

Status CheckPrivate(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot open", path);
  if ((info.st_mode & 077) != 0)
    return PermissionDenied("{}: others may read this key: chmod 600 it", path.string());
  return OkStatus();
}

}  // namespace

StatusOr<WorkerSetup> LoadSetup(const std::string& config_path, Instant now) {
  WorkerSetup setup;
  ASSIGN_OR_RETURN(setup.config, policy::LoadWorkerConfig(config_path));
  const policy::WorkerConfig& config = setup.config;
  ASSIGN_OR_RETURN(setup.charter,
                   policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash));
  ASSIGN_OR_RETURN(setup.policy, policy::LoadRegionPolicy(config.policy.string()));
  ASSIGN_OR_RETURN(setup.card, policy::LoadDatasetCard(config.dataset_card.string()));
  ASSIGN_OR_RETURN(setup.chain, ReadTextFile(config.certificate, crypto::kMaxChainBytes));
  RETURN_IF_ERROR(CheckPrivate(config.key));
  ASSIGN_OR_RETURN(setup.key_pem, ReadTextFile(config.key, 1 << 16));
  auto peer = policy::CheckPeer(setup.charter.charter, setup.chain, now);
  if (!peer.ok()) return Annotate(peer.status(), config.certificate.string());
  if (peer->id.role() != Role::kWorker)
    return PermissionDenied("{}: expected a worker's certificate, this one is {}",
                            config.certificate.string(), peer->id.ToString());
  ASSIGN_OR_RETURN(const crypto::SigningKey key, crypto::SigningKey::FromPem(AsBytes(setup.key_pem)));
  if (key.Public().KeyHash() != peer->key_hash)
    return PermissionDenied("{}: not the key of {}", config.key.string(), config.certificate.string());
  setup.self = peer->id;
  ASSIGN_OR_RETURN(const Bytes split, ReadFile(setup.card.split_key, 4096));
  auto split_key = Digest::From(split);
  if (!split_key.ok()) return Annotate(split_key.status(), setup.card.split_key.string());
  setup.split_key = *split_key;
  ASSIGN_OR_RETURN(setup.base_model, model::HashModel(config.base_model));
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
