#ifndef CONCORDAT_TESTS_BENCH_ROUND_SITE_H_
#define CONCORDAT_TESTS_BENCH_ROUND_SITE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "policy/charter.h"
#include "policy/ledger.h"
#include "policy/peer_verifier.h"
#include "policy/receipts.h"
#include "policy/region_policy.h"
#include "worker/core/worker_core.h"
#include "worker/rpc/event_loop.h"
#include "worker/rpc/round_store.h"
#include "worker/rpc/session.h"
#include "worker/rpc/transfers.h"
#include "worker/rpc/worker_journal.h"

namespace concordat::bench {

template <typename T>
T Must(StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}
void Must(const Status& status);

/// What all sites have in common.
struct World {
  std::filesystem::path root;  // of all files
  policy::SignedCharter charter;
  std::string address;  // of the coordinator
  Digest base_model;
  ModelShape shape;
};

/// Moments of a round, over all sites. Any thread.
class Moments {
 public:
  enum Kind { kOffer, kKeys, kDelivery, kSurvivors, kBundle, kResult, kAcknowledged, kKinds };
  using Time = std::chrono::steady_clock::time_point;

  void Reset();
  void Note(Kind kind);
  /// How often since Reset.
  size_t Count(Kind kind) const;
  Time First(Kind kind) const;
  Time Last(Kind kind) const;
  /// Waits until `kind` was noted `count` times; false when that takes longer than `patience`.
  bool Await(Kind kind, size_t count, std::chrono::seconds patience) const;

 private:
  struct Moment {
    size_t count = 0;
    Time first, last;
  };
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::array<Moment, kKinds> moments_;  // guarded by mutex_
};

/// Before which of its own messages a site vanishes: no word, its connections just end.
enum class Step : uint8_t { kAdvert, kShares, kInput, kHeader, kAgreement, kUnmask, kNever };
inline constexpr int kSteps = 6;
std::string_view StepName(Step step);

/// A worker without a trainer: the worker's own core, journals, ledger, session and transfers, as
/// worker/rpc/worker_shell.cc puts them together, and a delta that is there at once.
class Site {
 public:
  /// What of an upload is needed to make its integers again.
  struct Encoded {
    EncodingPlan plan;
    worker::Floats delta;
    std::vector<double> metrics;
    Secret32 seed;
  };

  /// \param folder the site's own, empty; \param moments, world, delta must outlive it
  Site(const World& world, const std::string& jurisdiction, const std::filesystem::path& folder,
       worker::Floats delta, Moments& moments);
  ~Site();
  Site(const Site&) = delete;

  /// Once, before the next offer.
  void VanishBefore(Step step) { vanish_ = step; }
  bool gone() const { return gone_; }
  /// Of the last upload; nullopt when there was none. Once the round is over.
  const std::optional<Encoded>& encoded() const { return encoded_; }
  /// What it found wrong; empty when all was well. Once the round is over.
  std::string trouble() const;

 private:
  void Open(const std::filesystem::path& folder);
  void Connect();
  void Run();
  void Vanish();
  bool IsTheEnd(const worker::ToCoordinator& message) const;
  void Note(const worker::FromCoordinator& message);
  void Complain(const std::string& text);
  void Apply(worker::Effects effects);
  void Persist(const worker::Effects& effects);
  std::vector<worker::ChargeOutcome> Charge(const std::vector<LedgerCharge>& charges);
  void Say(sandbox::FromTrainer message, worker::Floats weights = nullptr);
  worker::Upload::OnEvent ToLoop();
  void OnUpload(const worker::UploadEvent& event);

  void Do(const worker::StartTrainer&) {}
  void Do(const worker::StopTrainer&) {}
  void Do(const worker::TellTrainer& tell);
  void Do(worker::StartUpload& order);
  void Do(const worker::ResumeUpload&) {}
  void Do(const worker::RecoverUpload&) {}
  void Do(const worker::ForgetRound& forget);
  void Do(const worker::CancelUpload& cancel);
  void Do(const worker::Fetch& fetch);
  void Do(const worker::KeepAdapter& keep);

  const World& world_;
  const std::string jurisdiction_;
  const std::filesystem::path outbox_;
  const worker::Floats delta_;
  Moments& moments_;
  SystemClock clock_;
  OsRandom random_;
  tls::Identity identity_;
  std::optional<crypto::SigningKey> key_;
  std::unique_ptr<policy::CharterPeerVerifier> peers_;
  std::unique_ptr<worker::WorkerJournal> journal_;
  std::unique_ptr<worker::RoundStore> rounds_;
  std::unique_ptr<policy::Ledger> ledger_;
  std::unique_ptr<policy::ReceiptBook> receipts_;
  std::unique_ptr<worker::WorkerCore> core_;
  worker::EventLoop loop_;
  std::shared_ptr<grpc::Channel> channel_;
  worker::Dial dial_;
  std::unique_ptr<worker::Fetcher> fetcher_;
  std::unique_ptr<worker::Session> session_;
  std::map<AttemptId, std::unique_ptr<worker::Upload>> uploads_;
  std::optional<Instant> wake_;
  std::atomic<Step> vanish_ = Step::kNever;
  std::atomic<bool> gone_ = false;
  std::atomic<bool> ending_ = false;
  std::optional<Encoded> encoded_;
  mutable std::mutex mutex_;
  std::string trouble_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace concordat::bench

#endif  // CONCORDAT_TESTS_BENCH_ROUND_SITE_H_
