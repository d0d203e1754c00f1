#ifndef CONCORDAT_WORKER_RPC_WORKER_SHELL_H_
#define CONCORDAT_WORKER_RPC_WORKER_SHELL_H_

#include <map>
#include <memory>
#include <string>

#include "policy/node_config.h"
#include "policy/peer_verifier.h"
#include "worker/core/worker_core.h"
#include "worker/rpc/event_loop.h"
#include "worker/rpc/region_service.h"
#include "worker/rpc/round_store.h"
#include "worker/rpc/session.h"
#include "worker/rpc/setup.h"
#include "worker/rpc/trainer_process.h"
#include "worker/rpc/transfers.h"
#include "worker/rpc/worker_journal.h"

namespace concordat::worker {

/// Everything that the worker reads before it begins.
struct WorkerSetup {
  policy::WorkerConfig config;
  policy::SignedCharter charter;  // verified, pinned
  policy::RegionPolicy policy;
  policy::DatasetCard card;
  SpiffeId self;
  std::string chain;    // PEM, leaf first
  std::string key_pem;  // for TLS
  Digest base_model;
  ModelShape base_shape;
  secagg::PairwiseKeys pairwise;
  TrainerSecrets secrets;
  std::string address;            // of the coordinator
  std::filesystem::path trainer;  // the program
  bool accept_rollback = false;   // the operator has put the state folder back from a copy, and says so
};

/// Reads all files that `config_path` names. InvalidArgument with file, line and column; PermissionDenied for
/// an unpinned charter, a key that others may read, a certificate that is no worker's of a member or not the
/// key's.
StatusOr<WorkerSetup> LoadSetup(const std::string& config_path, Instant now);

/// The daemon around a core: files, processes, threads and sockets. Run owns the core; everything else posts
/// to it.
class WorkerShell {
 public:
  /// Opens journal, ledger and receipts and takes the region's folder for itself: Unavailable when another
  /// worker has it.
  static StatusOr<std::unique_ptr<WorkerShell>> Make(WorkerSetup setup);
  ~WorkerShell();

  /// Works until End. On the thread that the trainer's life is tied to: the main one.
  Status Run();
  /// From any thread: says goodbye and ends Run.
  void End();

 private:
  explicit WorkerShell(WorkerSetup setup) : setup_(std::move(setup)) {}
  Status OpenState();
  Status MakeCore();
  void Connect();
  Status ServeRegion();
  void Recover();
  void RecoverFile(const std::filesystem::path& file, const AttemptId& id);
  void Wake();
  void Apply(Effects effects);
  /// What is still to be done when what `failed` says cannot be stored.
  Effects AfterStorageFailed(Effects failed, const Status& why);
  Status Persist(Effects& effects);
  std::vector<ChargeOutcome> Charge(const std::vector<LedgerCharge>& charges);
  void Do(const StartTrainer&);
  void Do(const StopTrainer&);
  void Do(const TellTrainer& tell);
  void Do(StartUpload& order);
  void Do(const ResumeUpload& order);
  void Do(const RecoverUpload& order);
  void Do(const ForgetRound& forget);
  void Run(const AttemptId& id, std::unique_ptr<Upload> upload);
  Upload::OnEvent ToLoop();
  void Do(const CancelUpload& cancel);
  void Do(const Fetch& fetch);
  void Do(const KeepAdapter& keep);
  void OnUploadEvent(const UploadEvent& event);
  StatusOr<pb::RegionStatus> Status_();
  pb::RegionStatus StatusNow() const;
  StatusOr<std::string> Decide(const JobId& job, Decision decision);

  WorkerSetup setup_;
  SystemClock clock_;
  OsRandom random_;
  FileDescriptor lock_;
  std::optional<crypto::SigningKey> key_;
  std::unique_ptr<policy::CharterPeerVerifier> peers_;
  std::unique_ptr<WorkerJournal> journal_;
  std::unique_ptr<RoundStore> rounds_;
  std::unique_ptr<policy::Ledger> ledger_;
  std::unique_ptr<policy::ReceiptBook> receipts_;
  std::unique_ptr<WorkerCore> core_;
  EventLoop loop_;
  std::shared_ptr<grpc::Channel> channel_;
  Dial dial_;  // for uploads
  std::unique_ptr<Session> session_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<TrainerProcess> trainer_;
  uint64_t trainer_generation_ = 0;
  std::map<AttemptId, std::unique_ptr<Upload>> uploads_;
  std::unique_ptr<RegionServer> region_;
  std::optional<Instant> wake_;
  bool connected_ = false;
  bool ending_ = false;
  std::string trouble_;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_WORKER_SHELL_H_
