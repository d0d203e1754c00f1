#ifndef CONCORDAT_TESTS_INTEGRATION_FALSE_PEER_H_
#define CONCORDAT_TESTS_INTEGRATION_FALSE_PEER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/random.h"
#include "common/version.h"
#include "concordat/v1/federation.grpc.pb.h"
#include "policy/job.h"
#include "policy/peer_verifier.h"
#include "privacy/secagg/worker_round.h"
#include "proto/tls.h"
#include "tests/support/federation.h"

namespace concordat::testing {

namespace pb = ::concordat::v1;

/// What a peer does by the book, until one step.
enum class Misdeed {
  kNone,
  kNoAdvert,     // joins and then says nothing
  kNoUpload,     // shares its secrets and then sends nothing
  kWrongLength,  // an upload of half the elements
  kWrongDigest,  // a chunk that is not what its hash says
  kWrongRound,   // a chunk for the round after
  kHeaderTwice,  // two headers, the second of another vector
  kFalseHeader,  // a header that is not of what was uploaded
};

/// A worker with a real certificate and key in this process, without a trainer: its vector is masks alone.
/// Wait and the constructor belong to one thread; the stream has its own.
class FalsePeer {
 public:
  /// What it says in its hello, and what it does then.
  struct Options {
    Misdeed misdeed = Misdeed::kNone;
    uint32_t protocol = kProtocolVersion;
    std::string role = "worker";     // whose certificate it shows: worker or operator
    std::filesystem::path identity;  // folder with cert.pem and key.pem; empty: the region's
  };
  FalsePeer(const Federation& federation, const std::string& jurisdiction, Options options);
  ~FalsePeer();

  /// Refusals that it met, as they came.
  std::vector<std::string> refusals() const;
  /// Waits for the stream's end and gives its status.
  grpc::Status Wait();

 private:
  void Run();
  void On(const pb::CoordinatorMessage& message);
  void Reply(StatusOr<secagg::WorkerEffects> effects);
  void Upload(const AttemptId& id);
  grpc::Status Put(const AttemptId& id, ByteView bytes, uint64_t total, bool lie = false);
  void Note(const std::string& text);

  const Options options_;
  const std::string jurisdiction_;
  const std::vector<std::string> members_;
  SystemClock clock_;
  OsRandom random_;
  policy::SignedCharter charter_;
  tls::Identity identity_;
  std::unique_ptr<crypto::SigningKey> key_;
  std::unique_ptr<policy::CharterPeerVerifier> peers_;
  std::unique_ptr<crypto::VerifyKey> coordinator_;
  std::unique_ptr<pb::Federation::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WorkerMessage, pb::CoordinatorMessage>> stream_;
  policy::JobSpec job_;
  std::unique_ptr<secagg::WorkerRound> round_;
  grpc::Status status_;
  mutable std::mutex mutex_;
  std::vector<std::string> refusals_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_INTEGRATION_FALSE_PEER_H_
