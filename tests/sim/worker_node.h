#ifndef CONCORDAT_TESTS_SIM_WORKER_NODE_H_
#define CONCORDAT_TESTS_SIM_WORKER_NODE_H_

#include <optional>
#include <set>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "tests/sim/env.h"

namespace concordat::sim {

/// The shell of one worker, as thin as it can be around secagg::WorkerRound, in the order that the core asks
/// for: persist, send, deadline. Made anew at every start of the process; everything that it knows from
/// before comes from its disk.
///
/// Files: "journal" (snapshots and ends of attempts, synced), "ledger" (charges, synced), "vector.A" (y_i of
/// attempt A in pieces, written before they are sent, not synced).
class WorkerNode {
 public:
  /// \param incarnation starts of this process so far: no two draw the same randomness
  WorkerNode(SiteIndex site, uint64_t incarnation, Env& env, Disk& disk);

  void OnConnected();
  void OnMessage(const secagg::CoordinatorMessage& message);
  void OnAck(const Ack& ack);
  void OnAbandoned(const Abandoned& abandoned);
  /// The plain vector, the masks and the upload come from here when step 5 may begin.
  void MayBegin();
  void OnTimer();

  /// No attempt is open here.
  bool idle() const { return !round_.has_value(); }
  secagg::WorkerPhase phase() const { return round_ ? round_->phase() : secagg::WorkerPhase::kIdle; }

 private:
  void Recover();
  void Resume(AttemptIndex attempt, ByteView snapshot);
  secagg::WorkerBounds Bounds(AttemptIndex attempt) const;
  void OnOffer(const secagg::Signed<secagg::Offer>& offer);
  void Carry(StatusOr<secagg::WorkerEffects> effects);
  void Persist(const secagg::WorkerRecord& record);
  void Send(const std::optional<secagg::WorkerMessage>& message);
  void SetDeadline(Instant deadline);
  void Leave(bool say_so);
  bool Charged() const;
  bool Begun() const;
  void Charge();
  void EncodeAndMask();
  bool VectorIsWhole() const { return vector_.size() == 4 * env_->world().offer.elements; }
  void SendPiece(uint64_t offset);

  SiteIndex site_;
  Env* env_;
  Disk* disk_;
  crypto::CtrRandom random_;
  uint64_t piece_bytes_;
  AttemptIndex attempt_ = 0;
  std::set<AttemptIndex> entered_;  // known to the journal: never entered again
  std::optional<secagg::WorkerRound> round_;
  std::optional<Instant> deadline_;
  bool training_ = false;
  Bytes vector_;  // what of y_i is on the disk
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_WORKER_NODE_H_
