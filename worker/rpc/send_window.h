#ifndef CONCORDAT_WORKER_RPC_SEND_WINDOW_H_
#define CONCORDAT_WORKER_RPC_SEND_WINDOW_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "common/clock.h"
#include "common/status.h"

namespace concordat::worker {

/// Which bytes of an upload are sent next, and how many may be under way. Pure: knows neither network nor
/// clock. One thread.
///
/// Several pieces are under way at once, over several connections, and may overtake each other. How much is
/// under way follows the link: it grows with what is acknowledged as long as an acknowledgement comes within
/// `patience`, and shrinks to what the link took within `patience` when it does not. A slow link so never has
/// more than `kLeast` in flight, which is what a cut can make us send again; a fat one up to `kMost`, and the
/// coordinator holds at most about `patience` worth of its own link in half-received pieces, from however
/// many sites. TCP controls congestion below; this bounds what waits above it.
class SendWindow {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr uint64_t kLeast = 512 << 10;
  static constexpr uint64_t kFirst = 512 << 10;
  static constexpr uint64_t kMost = 24 << 20;
  /// How far a piece may lie past what is stored: one connection that stalls holds the others up only then.
  /// The coordinator takes a little more.
  static constexpr uint64_t kSpan = 56 << 20;
  static constexpr uint64_t kSmallestPiece = 64 << 10;
  static constexpr uint64_t kLargestPiece = 1 << 20;  // the schema's bound
  /// Pieces under way at once. A coordinator of many members takes fewer (LimitPieces) and refuses what is
  /// beyond, which then was sent in vain.
  static constexpr size_t kMostPieces = 24;

  /// A range of the upload on its way, and what was known when it left.
  struct Piece {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    Time sent;
    uint64_t acknowledged_before = 0;
  };

  /// \param connections that the pieces are spread over
  explicit SendWindow(uint64_t total_bytes, size_t connections = 1)
      : total_(total_bytes), connections_(connections) {}

  void SetConnections(size_t connections) { connections_ = connections; }
  /// Whether another connection may help, as on a link that loses packets: in the last four seconds less than
  /// 512 KiB more was stored, though more than that had been made. Each four seconds are looked at once.
  /// \param made as of Next
  bool Slow(uint64_t made, Time now);

  /// How long a piece may be under way before less is sent. Set from the time that a connection took to give
  /// its first answer, about four round trips; kept between bounds of its own.
  void SetPatience(Millis first_answer);
  /// No more than `most` pieces are under way at once, but at least one and at most kMostPieces.
  void LimitPieces(size_t most);

  /// The next piece, or none: the window is full, or all of the first `made` bytes is under way or stored.
  /// Pieces that were lost go first.
  std::optional<Piece> Next(uint64_t made, Time now);
  /// It arrived, and the coordinator has `stored` bytes without a gap. InvalidArgument when that cannot be.
  Status Acknowledged(const Piece& piece, uint64_t stored, Time now);
  /// It may not have arrived: it is sent again, but for what a later word says is stored.
  void Lost(const Piece& piece);
  /// The coordinator, asked when `stored()` was `known`, has `stored` bytes without a gap. Fewer than
  /// `known`: it has lost some, and they are sent again. InvalidArgument when it claims more than was sent.
  Status Told(uint64_t stored, uint64_t known);
  /// Bytes that an earlier process may have sent: the coordinator may claim to have them.
  void MayHaveLeft(uint64_t bytes) { left_ = bytes; }

  /// Everything was acknowledged, and yet not all is stored: the coordinator has lost some that overtook the
  /// rest. It is to be asked, then BeginAgain.
  bool Stuck() const { return next_ >= total_ && again_.empty() && flying_ == 0 && stored_ < total_; }
  /// Goes on from what is stored. InvalidArgument when that has not grown since the last time, and no loss
  /// explains it.
  Status BeginAgain();

  bool done() const { return stored_ == total_; }
  uint64_t stored() const { return stored_; }
  /// The furthest byte that was given out: what may have left the region.
  uint64_t left() const { return left_; }
  uint64_t flying() const { return flying_; }
  uint64_t size() const { return size_; }
  /// Bytes of all pieces given out, those sent again among them.
  uint64_t sent() const { return sent_; }

 private:
  Status Believe(uint64_t stored);
  void Adapt(const Piece& piece, Time now);
  void Trim();

  const uint64_t total_;
  size_t connections_;
  Millis patience_{1000};
  uint64_t size_ = kFirst;
  uint64_t piece_bytes_ = kSmallestPiece;
  bool was_full_ = false;               // more would have been sent
  uint64_t next_ = 0;                   // first byte never given out
  std::map<uint64_t, uint64_t> again_;  // begin, end of what was lost; apart, all below next_
  uint64_t flying_ = 0;
  size_t flying_pieces_ = 0;
  size_t most_pieces_ = kMostPieces;
  uint64_t stored_ = 0;
  uint64_t left_ = 0;
  uint64_t sent_ = 0;
  uint64_t acknowledged_ = 0;
  std::optional<uint64_t> began_again_at_;
  std::optional<Time> looked_at_;  // of Slow
  uint64_t stored_then_ = 0;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_SEND_WINDOW_H_
