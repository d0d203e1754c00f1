#ifndef CONCORDAT_COORDINATOR_RPC_HUB_H_
#define CONCORDAT_COORDINATOR_RPC_HUB_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "common/random.h"
#include "coordinator/core/coordinator_core.h"
#include "coordinator/journal/blob_store.h"
#include "coordinator/journal/journal.h"
#include "coordinator/rpc/sum_engine.h"
#include "coordinator/rpc/uploads.h"
#include "policy/charter.h"
#include "policy/signed_job.h"

namespace concordat::coordinator {

/// One worker's stream, as the hub sees it. Any thread.
class SessionLink {
 public:
  virtual ~SessionLink() = default;
  /// Queues the message; drops it when the stream is over.
  virtual void Send(std::shared_ptr<const ToWorkerMessage> message) = 0;
  /// Ends the stream with `why`.
  virtual void Close(const Status& why) = 0;
  /// The hub has dealt with the last message: the next one may be read.
  virtual void Taken() = 0;
};

/// Owns the core and the loop thread that feeds it: gRPC threads enqueue, the loop decides, journals, sends.
///
/// When the disk is full the loop stops at the journal until it is not, so that nothing is sent that was not
/// written. Any other failure of the journal ends the process (see `fatal`): running ahead of it would be
/// worse.
class Hub {
 public:
  struct Parts {
    const policy::SignedCharter* charter = nullptr;
    const crypto::SigningKey* key = nullptr;
    const secagg::PeerVerifier* peers = nullptr;
    const Clock* clock = nullptr;
    std::unique_ptr<Journal> journal;
    std::unique_ptr<BlobStore> blobs;
    std::unique_ptr<Uploads> uploads;
    CoreLimits limits;
    uint64_t max_state_bytes = 0;
    Millis reconnect_grace{0};
    std::function<void()> fatal;  // asks the process to end with exit code 1
  };
  /// Restores the journal's jobs. DataLoss when one does not match its own name.
  static StatusOr<std::unique_ptr<Hub>> Make(Parts parts);
  ~Hub();

  // ---- From workers' streams.
  void Connected(const WorkerInfo& worker, std::shared_ptr<SessionLink> link);
  /// Only when `link` is still the worker's stream.
  void Lost(const SpiffeId& worker, const SessionLink* link);
  /// One message of a stream at a time: `link->Taken()` asks for the next, so that a worker that floods only
  /// fills its own connection.
  void Event(const SpiffeId& worker, std::shared_ptr<SessionLink> link, WorkerEvent event);
  void Header(const SpiffeId& worker, std::shared_ptr<SessionLink> link,
              secagg::Signed<secagg::InputHeader> header);

  // ---- From operators' calls; they wait for the loop. Unavailable while the disk is full, and when the
  // loop is too busy or stopping.
  struct Submitted {
    JobId job;
    bool existed = false;
  };
  StatusOr<Submitted> Submit(const policy::SignedJob& job, const SpiffeId& caller);
  StatusOr<PlanOutcome> Plan(const policy::SignedJob& job, Millis wait);
  StatusOr<EvaluationOutcome> Evaluate(EvaluationRequest request, Millis wait);
  StatusOr<JobView> Cancel(const JobId& job, const SpiffeId& caller);
  StatusOr<JobView> View(const JobId& job);
  struct Page {
    std::vector<JobView> jobs;  // in the order of registration
    bool earlier = false;       // whether there are more before the first
  };
  /// The newest `at_most` jobs, or the newest of those registered before `before`. NotFound when that is
  /// none.
  StatusOr<Page> List(const std::optional<JobId>& before, size_t at_most);
  StatusOr<JobRecord> Record(const JobId& job);
  StatusOr<std::vector<SpiffeId>> ConnectedWorkers();

  // ---- Who may ask. Any thread.
  /// policy::CheckPeer, whose answer it keeps for some seconds: each call asks.
  StatusOr<crypto::PeerIdentity> Peer(const std::string& chain) const;
  /// Whether a blob, or what follows of a job, may go to `jurisdiction`: the charter must have a flow of
  /// adapters to it, and a job that has the blob must invite it or have been submitted there.
  /// PermissionDenied, NotFound; Unavailable as above.
  Status CheckReader(const Digest& blob, const std::string& jurisdiction);
  Status CheckJobReader(const JobId& job, const std::string& jurisdiction);

  /// Waits until `job` has changed since `seen`, or `until`; gives the number of its changes.
  uint64_t AwaitChange(const JobId& job, uint64_t seen, Millis at_most);

  Uploads& uploads() { return *parts_.uploads; }
  BlobStore& blobs() { return *parts_.blobs; }
  Traffic& traffic() { return traffic_; }
  const policy::SignedCharter& charter() const { return *parts_.charter; }
  const Clock& clock() const { return *parts_.clock; }
  bool stopping() const { return stopping_; }
  /// Closes every stream and ends the loop. Called once, before the gRPC server is shut down.
  void Stop();

 private:
  explicit Hub(Parts parts);
  Status Restore();
  void Post(std::function<void()> task);
  void Run();
  void Apply(CoreEffects fx);
  bool Persist(const std::vector<JournalRecord>& records);
  void ApplyUploads(CoreEffects* fx);
  void Publish(CoreEffects* fx);
  void Take(const SpiffeId& worker, std::string_view what, StatusOr<CoreEffects> fx);
  bool IsCurrent(const SpiffeId& worker, const SessionLink* link) const;
  template <typename T>
  StatusOr<T> Ask(std::function<StatusOr<T>()> question);
  Status Check(std::function<Status()> question);
  template <typename T>
  StatusOr<T> Await(std::future<StatusOr<T>> answer, Millis at_most);
  Digest NewRequest();
  Status CheckRoom(const policy::VerifiedJob& job);
  Status CheckFlow(const std::string& jurisdiction) const;

  struct KnownPeer {
    crypto::PeerIdentity peer;
    Instant until;
  };
  Parts parts_;
  Traffic traffic_;
  CoordinatorCore core_;                                                     // loop thread
  std::vector<CoreEffects> restored_;                                        // loop thread
  std::map<SpiffeId, std::shared_ptr<SessionLink>> links_;                   // loop thread
  std::map<Digest, std::promise<StatusOr<PlanOutcome>>> plans_;              // loop thread
  std::map<Digest, std::promise<StatusOr<EvaluationOutcome>>> evaluations_;  // loop thread
  std::optional<Instant> deadline_;                                          // loop thread
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> stop_asked_ = false;
  std::atomic<bool> stalled_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;  // guarded by mutex_
  std::mutex changes_mutex_;
  std::condition_variable changed_;
  std::map<JobId, uint64_t> changes_;  // guarded by changes_mutex_
  std::unique_ptr<SumEngine> sums_;
  std::timed_mutex maker_;  // held while a job is registered
  mutable std::mutex peers_mutex_;
  mutable std::map<std::string, KnownPeer> peers_;  // by chain; guarded by peers_mutex_
  std::thread thread_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_HUB_H_
