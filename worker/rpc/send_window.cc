#include "worker/rpc/send_window.h"

#include <algorithm>

namespace concordat::worker {
namespace {

constexpr Millis kSlack{200};  // a coordinator that hashes, stores and serves others takes time too
/// A lost SYN alone takes a second: that says nothing about the link's length.
constexpr Millis kLongestPatience{1'250};
/// A piece is what one connection sends in about this time: small on a slow link, where it may be lost.
constexpr double kPieceSeconds = 0.5;
constexpr Millis kSlowTime{4'000};
constexpr uint64_t kSlowBytes = 512 << 10;

}  // namespace

void SendWindow::SetPatience(Millis first_answer) {
  patience_ = std::min(kLongestPatience, first_answer + kSlack);
}

void SendWindow::LimitPieces(size_t most) { most_pieces_ = std::clamp<size_t>(most, 1, kMostPieces); }

bool SendWindow::Slow(uint64_t made, Time now) {
  const bool waiting = made >= stored_ + kSlowBytes;
  if (waiting && looked_at_ && now - *looked_at_ < kSlowTime) return false;
  const bool slow = waiting && looked_at_ && stored_ < stored_then_ + kSlowBytes;
  looked_at_ = waiting ? std::optional(now) : std::nullopt;
  stored_then_ = stored_;
  return slow;
}

/// Drops what is stored from what is to be sent again.
void SendWindow::Trim() {
  while (!again_.empty() && again_.begin()->first < stored_) {
    const uint64_t end = again_.begin()->second;
    again_.erase(again_.begin());
    if (end > stored_) again_.emplace(stored_, end);
  }
  next_ = std::max(next_, stored_);
}

std::optional<SendWindow::Piece> SendWindow::Next(uint64_t made, Time now) {
  Piece piece;
  piece.sent = now;
  piece.acknowledged_before = acknowledged_;
  if (!again_.empty()) {
    piece.offset = again_.begin()->first;
    piece.bytes = std::min(piece_bytes_, again_.begin()->second - piece.offset);
  } else {
    piece.offset = next_;
    piece.bytes = std::min(piece_bytes_, std::max(std::min(made, total_), next_) - next_);
  }
  if (piece.bytes == 0) return std::nullopt;
  const bool far = piece.offset + piece.bytes > stored_ + kSpan && piece.offset > stored_;
  if (far || flying_pieces_ >= most_pieces_ || (flying_ > 0 && flying_ + piece.bytes > size_)) {
    was_full_ = true;
    return std::nullopt;
  }
  if (!again_.empty()) {
    const uint64_t end = again_.begin()->second;
    again_.erase(again_.begin());
    if (piece.offset + piece.bytes < end) again_.emplace(piece.offset + piece.bytes, end);
  } else {
    next_ += piece.bytes;
  }
  flying_ += piece.bytes;
  ++flying_pieces_;
  sent_ += piece.bytes;
  left_ = std::max(left_, piece.offset + piece.bytes);
  return piece;
}

Status SendWindow::Acknowledged(const Piece& piece, uint64_t stored, Time now) {
  flying_ -= piece.bytes;
  --flying_pieces_;
  acknowledged_ += piece.bytes;
  if (stored >= piece.offset && stored < piece.offset + piece.bytes)
    return InvalidArgument("the coordinator took a chunk and did not store it");
  RETURN_IF_ERROR(Believe(stored));
  stored_ = std::max(stored_, stored);
  Trim();
  Adapt(piece, now);
  return OkStatus();
}

void SendWindow::Adapt(const Piece& piece, Time now) {
  using Seconds = std::chrono::duration<double>;
  const double seconds = std::max(1e-6, Seconds(now - piece.sent).count());
  const double rate =
      std::min(1e12, static_cast<double>(acknowledged_ - piece.acknowledged_before) / seconds);
  const auto fits = static_cast<uint64_t>(rate * Seconds(patience_).count());
  if (now - piece.sent > patience_) {
    size_ = std::clamp(fits, kLeast, std::max(kLeast, size_));
  } else if (was_full_ && fits >= size_ / 2) {
    // Not for one connection that was lucky while the others were not. What is acknowledged now left when the
    // window was half of what it is, if it has grown since.
    size_ = std::min(kMost, size_ + piece.bytes);
  }
  was_full_ = false;
  const auto share = static_cast<uint64_t>(rate * kPieceSeconds / static_cast<double>(connections_));
  // Two for each connection fit: the next is there when one is through. Fewer and larger ones when so many
  // may not be under way.
  const uint64_t most =
      std::clamp(size_ / std::min(2 * connections_, most_pieces_), kSmallestPiece, kLargestPiece);
  piece_bytes_ = std::clamp(share / kSmallestPiece * kSmallestPiece, kSmallestPiece, most);
}

void SendWindow::Lost(const Piece& piece) {
  flying_ -= piece.bytes;
  --flying_pieces_;
  again_.emplace(piece.offset, piece.offset + piece.bytes);
  began_again_at_.reset();
  Trim();
}

Status SendWindow::Believe(uint64_t stored) {
  if (stored <= total_ && stored <= left_) return OkStatus();
  return InvalidArgument("the coordinator says that it has more than was sent");
}

Status SendWindow::Told(uint64_t stored, uint64_t known) {
  RETURN_IF_ERROR(Believe(stored));
  if (stored < known) {
    again_.emplace(stored, stored_);
    stored_ = stored;
    began_again_at_.reset();
  }
  stored_ = std::max(stored_, stored);
  Trim();
  return OkStatus();
}

Status SendWindow::BeginAgain() {
  if (began_again_at_ && stored_ <= *began_again_at_)
    return InvalidArgument("the coordinator took chunks and did not store them");
  began_again_at_ = stored_;
  next_ = stored_;
  return OkStatus();
}

}  // namespace concordat::worker
