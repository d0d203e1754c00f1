#include "cli/doctor_checks.h"

#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "cli/anchored_ledger.h"
#include "cli/certificate_file.h"
#include "cli/context.h"
#include "cli/doctor_trainer.h"
#include "cli/trainer_interview.h"
#include "common/files.h"
#include "policy/pairwise_key_files.h"
#include "worker/model/weight_source.h"
#include "worker/rpc/setup.h"

namespace concordat::cli {
namespace {

using std::filesystem::path;
using Level = Check::Level;

constexpr uint32_t kLandlockVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
constexpr auto kSoon = std::chrono::days(14);
constexpr Millis kTrainerPatience{300'000};

std::string Days(Instant from, Instant to) {
  return fmt::format("{} days", std::chrono::duration_cast<std::chrono::days>(to - from).count());
}

/// When the leaf in this file runs out; the end of time for a file that does not read.
Instant EndOf(const path& certificate) {
  const auto read = [&]() -> StatusOr<Instant> {
    ASSIGN_OR_RETURN(const CertificateFile own, ReadCertificateFile(certificate));
    return own.leaf.not_after();
  };
  return read().value_or(Instant::max());
}

/// `folder`, or the nearest one above it that is there: what is made later lies on its disk.
path ExistingPart(path folder) {
  std::error_code error;
  while (!std::filesystem::exists(folder, error) && folder.has_parent_path() &&
         folder != folder.parent_path()) {
    folder = folder.parent_path();
  }
  return folder;
}

/// Whether something can be made in `folder`, by making it: permission bits do not tell for every file
/// system, and none for root.
Status TryToMakeIn(const path& folder) {
  std::string name = (folder / ".concordat-doctor-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return ErrnoStatus(errno, "nothing can be made in", folder);
  ::rmdir(name.c_str());
  return OkStatus();
}

/// Whether a worker holds this state folder.
bool WorkerRuns(const path& state) {
  const FileDescriptor lock(::open((state / "lock").c_str(), O_RDWR | O_CLOEXEC));
  return lock.valid() && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

struct FreeAddresses {
  void operator()(addrinfo* found) const { ::freeaddrinfo(found); }
};

/// Binds, listens and lets go. AlreadyExists when the address is in use.
Status TryToListen(const std::string& address) {
  ASSIGN_OR_RETURN(const policy::HostPort where, policy::ParseHostPort(address));
  if (where.port == 0) return OkStatus();
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
      error != 0) {
    return InvalidArgument("{}: {}", address, ::gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> first(found);
  const FileDescriptor fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd.valid() && ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd.get(), 1) == 0)
    return OkStatus();
  if (errno == EADDRINUSE) return AlreadyExists("{}: another program listens there", address);
  return ErrnoStatus(errno, "cannot listen on", address);
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

bool Doctor::failed(std::string_view name) const {
  for (const auto& check : checks_)
    if (check.level == Level::kFail && check.name == name) return true;
  return false;
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
  const std::string renew =
      fmt::format("concordat {} renew FOLDER{} issues a fresh one, then restart the daemon",
                  role == Role::kCoordinator ? "coordinator" : "region",
                  role == Role::kOperator ? " --role operator" : "");
  struct stat info {};
  if (::stat(key.c_str(), &info) == 0 && (info.st_mode & 0077) != 0) {
    Add(Level::kFail, "key_mode",
        fmt::format("{} can be read by others (mode {:o})", key.string(), info.st_mode & 0777),
        "chmod 600 " + key.string());
  }
  const auto read = [&]() -> StatusOr<crypto::Certificate> {
    ASSIGN_OR_RETURN(const CertificateFile own, ReadCertificateFile(certificate));
    const crypto::Certificate& leaf = own.leaf;
    ASSIGN_OR_RETURN(const std::string pem, ReadTextFile(key, 64 << 10));
    ASSIGN_OR_RETURN(const crypto::SigningKey signing, crypto::SigningKey::FromPem(AsBytes(pem)));
    if (signing.PublicSpki() != leaf.spki()) {
      return InvalidArgument("{} is not the key of {}", key.string(), certificate.string());
    }
    ASSIGN_OR_RETURN(const SpiffeId id, leaf.spiffe_id());
    if (id.role() != role) {
      return PermissionDenied("{}: expected a {}'s certificate, this one is {}", certificate.string(),
                              RoleName(role), id.ToString());
    }
    if (charter_) RETURN_IF_ERROR(policy::CheckPeer(charter_->charter, own.chain, now_).status());
    return leaf;
  };
  const auto leaf = read();
  if (!leaf.ok()) {
    // Another's certificate or key, or a file that is not there, is not mended by a new certificate.
    const Instant end = EndOf(certificate);
    return Add(leaf.status(), "certificate", "",
               end < now_ ? renew : "name this node's own certificate and key in its file");
  }
  const std::string text =
      fmt::format("{}, good for {}", leaf->spiffe_id()->ToString(), Days(now_, leaf->not_after()));
  if (leaf->not_after() - now_ < kSoon) return Add(Level::kWarn, "certificate", text, renew);
  Add(Level::kOk, "certificate", text);
}

void Doctor::CheckFolder(const path& folder, uint64_t wanted_bytes) {
  const path there = ExistingPart(folder);
  if (const Status can = TryToMakeIn(there); !can.ok()) {
    return Add(Level::kFail, "state", std::string(Message(can)),
               "give it to the user that runs the daemon, or name another folder");
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

void Doctor::CheckLog(const path& file) {
  if (file.empty()) return;
  static constexpr const char* kNext = "name a file that the user who runs the daemon may write";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    return Add(TryToMakeIn(ExistingPart(file.parent_path())), "log", file.string(), kNext);
  }
  const FileDescriptor fd(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  Add(fd.valid() ? OkStatus() : ErrnoStatus(errno, "cannot open the log", file), "log", file.string(), kNext);
}

void Doctor::CheckListen(const std::string& address, const std::function<Status()>& taken) {
  const Status bound = TryToListen(address);
  if (bound.code() != StatusCode::kAlreadyExists) {
    return Add(bound, "listen", address + " is free",
               "set listen to an address of this machine and a free port");
  }
  if (taken().ok()) return Add(Level::kOk, "listen", address + ": this coordinator runs there");
  Add(Level::kFail, "listen", std::string(Message(bound)),
      "stop the program that listens there, or set another port in listen");
}

void Doctor::CheckData() {
  static constexpr const char* kNext = "set path and kind in the dataset card, and let this user read it";
  Add(worker::CheckDataset(*card_), "dataset", card_->path.string(), kNext);
  const auto key = worker::ReadSplitKey(card_->split_key);
  Add(key.status(), "split_key", card_->split_key.string(),
      "concordat region init makes one, of mode 0600; never change it later");
  if (key.ok()) split_key_ = *key;
  const auto canary_key = worker::ReadCanaryKey(*card_);
  if (canary_key.ok()) canary_key_ = *canary_key;
  if (card_->canaries.count == 0) return;
  Add(canary_key.status(), "canary_key",
      fmt::format("{}, {} canaries", card_->canaries.key.string(), card_->canaries.count),
      "concordat region canaries makes one, of mode 0600; never change it later");
}

void Doctor::CheckLedger(const policy::WorkerConfig& config) {
  const auto ledger = ReadAnchoredLedger(config, card_->name);
  const Status status = ledger.ok() ? ledger->held : ledger.status();
  if (status.ok()) {
    if (const auto other =
            policy::OtherUnitIn(ledger->entries, card_->budget(), card_->privacy.period, now_)) {
      return Add(
          Level::kFail, "ledger",
          fmt::format("charges in unit {}, while the card says {}: guarantees of different units do not "
                      "add, and the budget counts as spent",
                      PrivacyUnitText(*other), PrivacyUnitText(card_->privacy.unit)),
          "set privacy.unit in the dataset card back; a budget in another unit is another dataset's, with "
          "a name and a ledger of its own");
    }
  }
  Add(status, "ledger",
      !status.ok() ? ""
      : ledger->entries.empty()
          ? "nothing was charged yet"
          : fmt::format("{}: {} charges, as its anchor says", config.ledger.string(), ledger->entries.size()),
      "put the newest copy of the ledger back, or, with the worker stopped: concordat ledger reconcile "
      "--worker FILE");
}

void Doctor::CheckModel(const policy::WorkerConfig& config) {
  auto policy = policy::LoadRegionPolicy(config.policy.string());
  Add(policy.status(), "policy", config.policy.string(), "configs/region-policy.yaml explains each key");
  if (policy.ok()) policy_ = *std::move(policy);
  const auto weights = model::OpenWeights(config.base_model);
  Add(weights.status(), "base_model", config.base_model.string(), "set base_model in the worker's file");
  if (!weights.ok()) return;
  const auto hash = model::HashModel(config.base_model);
  if (!hash.ok()) return Add(hash.status(), "base_model_hash", "", "");
  base_model_ = *hash;
  if (!policy_) return;
  for (const auto& allowed : policy_->base_models) {
    if (allowed.sha256 == *hash) {
      return Add(Level::kOk, "base_model_hash", fmt::format("{}, which the policy allows", hash->brief()));
    }
  }
  Add(Level::kFail, "base_model_hash", fmt::format("{} is not among the policy's base_models", hash->hex()),
      "add it to the policy if you mean to allow it, or use another file");
}

void Doctor::CheckTrainer(const policy::WorkerConfig& config) {
  const path trainer = TrainerOf(config);
  if (::access(trainer.c_str(), X_OK) != 0) {
    return Add(Level::kFail, "trainer", trainer.string() + " is not there or not executable",
               "install concordat-trainer beside concordat-worker, or set trainer in the worker's file");
  }
  if (!policy_ || !card_ || !split_key_ || !canary_key_ || !base_model_) {
    return Add(Level::kWarn, "trainer", trainer.string() + ": not started", "mend what failed above first");
  }
  if (WorkerRuns(config.state)) {
    return Add(Level::kOk, "trainer",
               trainer.string() + ": not started, the worker runs and has its own (concordat status)");
  }
  const auto trial = TryTrainer(
      trainer, worker::ConfigureTrainer(config, *policy_, *card_, {*split_key_, *canary_key_}, *base_model_),
      kTrainerPatience);
  if (trial.status().code() == StatusCode::kDeadlineExceeded) {
    return Add(Level::kWarn, "trainer", fmt::format("{}: {}", trainer.string(), Message(trial.status())),
               "a large model or dataset takes longer; else look at what it does");
  }
  // What it says itself says what to mend; a program that ends without a word cannot read what it needs.
  if (trial.status().code() == StatusCode::kInvalidArgument)
    return Add(Level::kFail, "trainer", std::string(Message(trial.status())),
               "mend what is named, then run doctor again");
  static constexpr const char* kNext =
      "run doctor as the user that runs the worker: that user must read the program, its libraries, the "
      "model and the dataset";
  if (!trial.ok())
    return Add(Level::kFail, "trainer", fmt::format("{}: {}", trainer.string(), Message(trial.status())),
               kNext);
  std::string text = fmt::format("{}: locked down, {} documents to train on, {} held out", trainer.string(),
                                 trial->ready.train_documents, trial->ready.held_out_documents);
  if (card_->privacy.unit == PrivacyUnit::kPerson)
    text += fmt::format(", {} persons to train on", trial->ready.train_units);
  Add(Level::kOk, "trainer", text);
  if (trial->ready.train_documents == 0) {
    return Add(Level::kFail, "trainer_device", "no document to train on is left",
               "more documents, or a smaller held_out_permille");
  }
  if (trial->prepared.code() == StatusCode::kDeadlineExceeded) {
    return Add(Level::kWarn, "trainer_device", std::string(Message(trial->prepared)), "look at what it does");
  }
  Add(trial->prepared, "trainer_device", config.device + " takes the model",
      "set device in the worker's file to cpu, or to an accelerator that this machine and its driver have");
}

void Doctor::CheckWorker(const policy::WorkerConfig& config) {
  CheckModel(config);
  auto card = policy::LoadDatasetCard(config.dataset_card.string());
  Add(card.status(), "dataset_card", config.dataset_card.string(),
      "configs/dataset-card.yaml explains each key");
  if (card.ok()) {
    card_ = *std::move(card);
    CheckData();
    CheckLedger(config);
    Add(worker::CheckApart(config, *card_), "apart",
        "keys, state and policy lie where the trainer cannot read",
        "move what is named, or name other folders");
  }
  for (const path& folder : {config.state, config.scratch}) {
    std::error_code error;
    if (!std::filesystem::exists(folder, error)) continue;
    if (const Status ours = MakePrivateFolder(folder); !ours.ok())
      Add(ours, "state", "", "the worker does not start in a folder of somebody else's");
  }
  CheckPairwiseKeys(config);
  CheckTrainer(config);
}

void Doctor::CheckPairwiseKeys(const policy::WorkerConfig& config) {
  if (config.pairwise_keys.empty()) return;
  const auto read = [&]() -> StatusOr<secagg::PairwiseKeys> {
    ASSIGN_OR_RETURN(const CertificateFile own, ReadCertificateFile(config.certificate));
    ASSIGN_OR_RETURN(const SpiffeId self, own.leaf.spiffe_id());
    return policy::LoadPairwiseKeys(config.pairwise_keys, self);
  };
  const auto keys = read();
  if (!keys.ok())
    return Add(keys.status(), "pairwise_keys", "", "the worker does not start before this is mended");
  if (keys->empty())
    return Add(Level::kWarn, "pairwise_keys", config.pairwise_keys.string() + ": no key in it",
               "concordat region pairwise-key makes one for each peer");
  std::string text;
  for (const auto& [peer, key] : *keys)
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", peer.Brief(), policy::PairwiseKeyCheck(key));
  Add(Level::kOk, "pairwise_keys", text);
}

}  // namespace concordat::cli
