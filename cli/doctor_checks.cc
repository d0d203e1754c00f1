#include "cli/doctor_checks.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/context.h"
#include "common/files.h"
#include "policy/dataset_card.h"
#include "policy/region_policy.h"
#include "privacy/crypto/x509.h"
#include "worker/model/weight_source.h"

namespace concordat::cli {
namespace {

using std::filesystem::path;
using Level = Check::Level;

constexpr uint32_t kLandlockVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
constexpr auto kSoon = std::chrono::days(14);

std::string Days(Instant from, Instant to) {
  return fmt::format("{} days", std::chrono::duration_cast<std::chrono::days>(to - from).count());
}

/// The trainer that a worker without `trainer:` would start: beside this program, as they are installed.
path TrainerOf(const policy::WorkerConfig& config) {
  if (!config.trainer.empty()) return config.trainer;
  std::error_code error;
  const path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path() / "concordat-trainer";
}

}  // namespace

std::string_view LevelName(Level level) {
  return level == Level::kOk ? "ok" : level == Level::kWarn ? "warn" : "fail";
}

void Doctor::Add(Level level, std::string name, std::string text, std::string next) {
  checks_.push_back({level, std::move(name), std::move(text), std::move(next)});
}
void Doctor::Add(const Status& status, std::string name, std::string ok, std::string next) {
  if (status.ok()) return Add(Level::kOk, std::move(name), std::move(ok));
  Add(Level::kFail, std::move(name), std::string(Message(status)), std::move(next));
}

bool Doctor::failed() const {
  for (const auto& check : checks_)
    if (check.level == Level::kFail) return true;
  return false;
}

void Doctor::CheckClock() {
  // Certificates and deadlines rest on it; a machine that boots without a time server often says 1970.
  static const auto kBuilt = std::chrono::sys_days(std::chrono::year(2026) / 1 / 1);
  if (now_ < kBuilt) {
    return Add(Level::kFail, "clock", "the machine's clock says " + FormatInstant(now_),
               "set it, and run a time service");
  }
  Add(Level::kOk, "clock", FormatInstant(now_));
}

void Doctor::CheckKernel() {
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kLandlockVersion);
  if (abi >= 4)
    Add(Level::kOk, "landlock", fmt::format("Landlock ABI {}: files and TCP", abi));
  else if (abi >= 1)
    Add(Level::kWarn, "landlock", fmt::format("Landlock ABI {}: files only", abi),
        "seccomp still keeps the trainer off the network; a kernel from 6.7 adds Landlock's own check");
  else
    Add(Level::kFail, "landlock", "this kernel has no Landlock",
        "use a kernel from 5.13 with Landlock in its lsm= list, or sandbox: advisory in the policy");
  // Asks whether the filter mode exists without installing one: EFAULT comes after the mode was accepted.
  const long seccomp = ::syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, 0, nullptr);
  if (seccomp == -1 && errno == EFAULT) return Add(Level::kOk, "seccomp", "seccomp filters work");
  Add(Level::kFail, "seccomp", "this kernel takes no seccomp filter",
      "use a kernel with CONFIG_SECCOMP_FILTER, or sandbox: advisory in the policy");
}

void Doctor::CheckCharter(const policy::CharterPin& pin) {
  auto charter = policy::LoadPinnedCharter(pin.file.string(), pin.hash);
  Add(charter.status(), "charter",
      charter.ok() ? fmt::format("{} version {}, signed by all {} members, pinned {}", charter->charter.name,
                                 charter->charter.version, charter->charter.members.size(), pin.hash.brief())
                   : "",
      "get the charter that all members signed, read it, then: concordat charter pin");
  if (charter.ok()) charter_ = *std::move(charter);
}

void Doctor::CheckIdentity(const path& certificate, const path& key, Role role) {
  static constexpr const char* kRenew = "concordat region renew FOLDER issues a fresh one";
  struct stat info {};
  if (::stat(key.c_str(), &info) == 0 && (info.st_mode & 0077) != 0) {
    Add(Level::kFail, "key_mode",
        fmt::format("{} can be read by others (mode {:o})", key.string(), info.st_mode & 0777),
        "chmod 600 " + key.string());
  }
  const auto read = [&]() -> StatusOr<crypto::Certificate> {
    ASSIGN_OR_RETURN(const std::string chain, ReadTextFile(certificate, crypto::kMaxChainBytes));
    ASSIGN_OR_RETURN(const auto pems, crypto::SplitPemChain(chain));
    ASSIGN_OR_RETURN(const crypto::Certificate leaf, crypto::Certificate::FromPem(pems.front()));
    ASSIGN_OR_RETURN(const std::string pem, ReadTextFile(key, 64 << 10));
    ASSIGN_OR_RETURN(const crypto::SigningKey signing, crypto::SigningKey::FromPem(AsBytes(pem)));
    if (signing.PublicSpki() != leaf.spki()) {
      return InvalidArgument("{} is not the key of {}", key.string(), certificate.string());
    }
    ASSIGN_OR_RETURN(const SpiffeId id, leaf.spiffe_id());
    if (id.role() != role)
      return InvalidArgument("expected a {}'s certificate, this is {}", RoleName(role), id.ToString());
    if (charter_) RETURN_IF_ERROR(policy::CheckPeer(charter_->charter, chain, now_).status());
    return leaf;
  };
  const auto leaf = read();
  if (!leaf.ok()) return Add(leaf.status(), "certificate", "", kRenew);
  const std::string text =
      fmt::format("{}, good for {}", leaf->spiffe_id()->ToString(), Days(now_, leaf->not_after()));
  if (leaf->not_after() - now_ < kSoon) return Add(Level::kWarn, "certificate", text, kRenew);
  Add(Level::kOk, "certificate", text);
}

void Doctor::CheckFolder(const path& folder, uint64_t wanted_bytes) {
  // A folder that is made later lies on the disk of the one above it.
  path there = folder;
  std::error_code error;
  while (!std::filesystem::exists(there, error) && there.has_parent_path() && there != there.parent_path()) {
    there = there.parent_path();
  }
  if (::access(there.c_str(), W_OK) != 0) {
    return Add(Level::kFail, "state", fmt::format("{} cannot be written", there.string()),
               "give it to the user that runs the daemon");
  }
  struct statvfs disk {};
  if (::statvfs(there.c_str(), &disk) != 0) return;
  const uint64_t left = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  const std::string text = fmt::format("{}: {} free", folder.string(), HumanBytes(left));
  if (left < wanted_bytes) {
    return Add(Level::kWarn, "disk", text,
               fmt::format("{} or more is comfortable", HumanBytes(wanted_bytes)));
  }
  Add(Level::kOk, "disk", text);
}

void Doctor::CheckData(const path& card_file) {
  const auto card = policy::LoadDatasetCard(card_file.string());
  Add(card.status(), "dataset_card", card.ok() ? card_file.string() : "",
      "configs/dataset-card.yaml explains each key");
  if (!card.ok()) return;
  std::error_code error;
  const bool folder = std::filesystem::is_directory(card->path, error);
  const bool readable = ::access(card->path.c_str(), folder ? R_OK | X_OK : R_OK) == 0;
  if (readable)
    Add(Level::kOk, "dataset", card->path.string());
  else
    Add(Level::kFail, "dataset", fmt::format("{} cannot be read", card->path.string()),
        "set path in the dataset card, and let this user read it");
  auto key = ReadFile(card->split_key, 4096);
  if (key.ok() && key->size() != 32) key = InvalidArgument("{}: expected 32 bytes", card->split_key.string());
  Add(key.status(), "split_key", card->split_key.string(),
      "concordat region init makes one; never change it later");
}

void Doctor::CheckModel(const policy::WorkerConfig& config) {
  const auto policy = policy::LoadRegionPolicy(config.policy.string());
  Add(policy.status(), "policy", config.policy.string(), "configs/region-policy.yaml explains each key");
  const auto weights = model::OpenWeights(config.base_model);
  Add(weights.status(), "base_model", config.base_model.string(), "set base_model in the worker's file");
  if (!policy.ok() || !weights.ok()) return;
  const auto hash = model::HashModel(config.base_model);
  if (!hash.ok()) return Add(hash.status(), "base_model_hash", "", "");
  for (const auto& allowed : policy->base_models) {
    if (allowed.sha256 == *hash) {
      return Add(Level::kOk, "base_model_hash", fmt::format("{}, which the policy allows", hash->brief()));
    }
  }
  Add(Level::kFail, "base_model_hash", fmt::format("{} is not among the policy's base_models", hash->hex()),
      "add it to the policy if you mean to allow it, or use another file");
}

void Doctor::CheckWorker(const policy::WorkerConfig& config) {
  CheckModel(config);
  CheckData(config.dataset_card);
  const path trainer = TrainerOf(config);
  if (::access(trainer.c_str(), X_OK) == 0)
    Add(Level::kOk, "trainer", trainer.string());
  else
    Add(Level::kFail, "trainer", trainer.string() + " is not there or not executable",
        "install concordat-trainer beside concordat-worker, or set trainer in the worker's file");
}

}  // namespace concordat::cli
