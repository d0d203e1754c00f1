#include "tests/sim/worker_node.h"

#include <algorithm>

#include "common/canonical.h"

namespace concordat::sim {
namespace {

using namespace secagg;
using enum WorkerPhase;

// Records of the journal.
constexpr uint8_t kSnapshot = 1;
constexpr uint8_t kOver = 2;

struct JournalRecord {
  uint8_t kind = 0;
  AttemptIndex attempt = 0;
  WorkerPhase phase{};
  Bytes snapshot;
};

Bytes Encode(const JournalRecord& record) {
  CanonicalWriter w;
  w.U8(record.kind);
  w.U32(record.attempt);
  w.U8(static_cast<uint8_t>(record.phase));
  w.Blob(record.snapshot);
  return w.Take();
}

JournalRecord Decode(ByteView bytes) {
  CanonicalReader r(bytes);
  JournalRecord record;
  record.kind = r.U8();
  record.attempt = r.U32();
  record.phase = static_cast<WorkerPhase>(r.U8());
  record.snapshot = ToBytes(r.Blob(bytes.size()));
  return record;
}

std::set<AttemptIndex> ReadLedger(const std::vector<Bytes>& records) {
  std::set<AttemptIndex> out;
  for (const Bytes& record : records) out.insert(CanonicalReader(record).U32());
  return out;
}

std::string VectorFile(AttemptIndex attempt) { return fmt::format("vector.{}", attempt); }

// A refusal that late, early or repeated messages explain. Between honest nodes there must be no other.
bool IsTiming(const Status& status) {
  const RefusalCode code = RefusalCodeOf(status);
  return code == RefusalCode::kWrongPhase || code == RefusalCode::kWrongAttempt || code == RefusalCode::kLate;
}

}  // namespace

WorkerNode::WorkerNode(SiteIndex site, uint64_t incarnation, Env& env, Disk& disk)
    : site_(site),
      env_(&env),
      disk_(&disk),
      random_(secagg::testing::SeedFor(fmt::format("worker {} {} {}", site, incarnation, env.rng().Next()))),
      piece_bytes_(12 + 4 * env.rng().Below(4)) {
  Recover();
}

WorkerBounds WorkerNode::Bounds(AttemptIndex attempt) const {
  WorkerBounds bounds = env_->world().BoundsOf(site_);
  bounds.id.attempt = attempt;
  return bounds;
}

void WorkerNode::Recover() {
  if (env_->sabotage() == Sabotage::kWorkerForgetsJournal) return;
  std::optional<JournalRecord> last;
  for (const Bytes& bytes : disk_->Read("journal")) {
    JournalRecord record = Decode(bytes);
    entered_.insert(record.attempt);
    const bool begun = record.kind == kSnapshot && record.phase >= kInputBegun;
    if (env_->sabotage() == Sabotage::kWorkerForgetsBegun && begun) continue;
    last = std::move(record);
  }
  env_->monitor().LedgerHolds(site_, ReadLedger(disk_->ReadDurable("ledger")));
  if (last.has_value() && last->kind == kSnapshot) Resume(last->attempt, last->snapshot);
}

void WorkerNode::Resume(AttemptIndex attempt, ByteView snapshot) {
  attempt_ = attempt;
  const World::Site& self = env_->world().sites[site_ - 1];
  auto round =
      WorkerRound::Restore(self.id, self.key, env_->world().verifier, env_->world().coordinator.Public(),
                           random_, Bounds(attempt), Digest{}, snapshot);
  if (!round.ok()) {
    env_->monitor().Fail("durable-lost", fmt::format("site {}: {}", site_, Message(round.status())));
    return;
  }
  round_ = *std::move(round);
  for (const Bytes& piece : disk_->Read(VectorFile(attempt)))
    vector_.insert(vector_.end(), piece.begin(), piece.end());
  env_->Trace(site_, fmt::format("restored attempt {} while {}, {} bytes of its vector", attempt,
                                 WorkerPhaseName(phase()), vector_.size()));
  if (phase() == kComplained || phase() == kDone || phase() == kErased) return round_.reset();
  // Begun, and the vector is not all there: it is never encoded again.
  if (phase() == kInputBegun && !VectorIsWhole()) return Leave(false);
  // The journal keeps no deadline: a restored attempt waits its longest step anew.
  SetDeadline(env_->now() + Millis(env_->world().offer.deadlines.input_ms) + Bounds(attempt).patience);
  if (phase() == kReady) {
    training_ = true;
    env_->CallAt(site_, env_->now() + Millis(env_->rng().Between(1, 8'000)), [this] { MayBegin(); });
  }
}

void WorkerNode::OnConnected() {
  // An attempt that the journal has closed or that was lost with the vector: nobody needs to wait.
  if (!round_.has_value() && !entered_.empty()) env_->SendToCoordinator(site_, Dropout{*entered_.rbegin()});
}

void WorkerNode::OnMessage(const CoordinatorMessage& message) {
  if (const auto* offer = std::get_if<Signed<Offer>>(&message)) return OnOffer(*offer);
  if (!round_.has_value()) return;
  const Instant now = env_->now();
  if (const auto* m = std::get_if<Signed<Keys>>(&message)) return Carry(round_->OnKeys(*m, now));
  if (const auto* m = std::get_if<Signed<Delivery>>(&message)) return Carry(round_->OnDelivery(*m, now));
  if (const auto* m = std::get_if<Signed<Survivors>>(&message)) return Carry(round_->OnSurvivors(*m, now));
  if (const auto* m = std::get_if<Signed<AgreementBundle>>(&message))
    return Carry(round_->OnAgreementBundle(*m, now));
  Carry(round_->OnResult(std::get<Signed<Result>>(message), now));
}

void WorkerNode::OnOffer(const Signed<Offer>& offer) {
  const AttemptIndex attempt = offer.body.id.attempt;
  if (round_.has_value() && attempt == attempt_) return Carry(round_->OnOffer(offer, env_->now()));
  if (round_.has_value() && attempt < attempt_) return;
  if (!entered_.empty() && attempt <= *entered_.rbegin()) {
    env_->SendToCoordinator(site_, Dropout{attempt});
    return;
  }
  if (round_.has_value()) Leave(false);  // a newer attempt says that the open one is over
  attempt_ = attempt;
  const World::Site& self = env_->world().sites[site_ - 1];
  round_.emplace(self.id, self.key, env_->world().verifier, env_->world().coordinator.Public(), random_,
                 Bounds(attempt), Digest{});
  Carry(round_->OnOffer(offer, env_->now()));
}

// ---- persist, send, deadline.

void WorkerNode::Persist(const WorkerRecord& record) {
  entered_.insert(record.id.attempt);
  disk_->Append("journal",
                Encode({kSnapshot, record.id.attempt, record.phase, ToBytes(record.snapshot.view())}), true);
}

void WorkerNode::Send(const std::optional<WorkerMessage>& message) {
  if (!message.has_value()) return;
  env_->monitor().WorkerSends(site_, *message);
  env_->SendToCoordinator(site_, *message);
}

void WorkerNode::Carry(StatusOr<WorkerEffects> effects) {
  if (!effects.ok()) {
    if (!IsTiming(effects.status())) {
      env_->monitor().Fail("honest-refusal", fmt::format("site {}: {}", site_, Message(effects.status())));
    }
    return;
  }
  const bool send_first = env_->sabotage() == Sabotage::kWorkerSendsFirst;
  if (send_first) Send(effects->send);
  if (effects->persist.has_value()) Persist(*effects->persist);
  if (!send_first) Send(effects->send);
  if (effects->deadline.has_value()) SetDeadline(*effects->deadline);
  if (effects->phase == kReady && !training_) {
    training_ = true;
    env_->CallAt(site_, env_->now() + Millis(env_->rng().Between(1, 8'000)), [this] { MayBegin(); });
  }
  if (effects->phase == kDone || effects->phase == kComplained) {
    env_->Trace(site_, fmt::format("attempt {}: {}", attempt_, WorkerPhaseName(effects->phase)));
    disk_->Remove(VectorFile(attempt_));
    round_.reset();
    vector_.clear();
    training_ = false;
  }
}

void WorkerNode::SetDeadline(Instant deadline) {
  deadline_ = deadline;
  env_->CallAt(site_, deadline, [this] { OnTimer(); });
}

void WorkerNode::OnTimer() {
  if (round_.has_value() && deadline_.has_value() && env_->now() >= *deadline_) Leave(true);
}

void WorkerNode::OnAbandoned(const Abandoned& abandoned) {
  if (round_.has_value() && abandoned.attempt == attempt_) Leave(false);
}

// The keys go first, then the disk hears of it: a worker that dies in between finds its record and goes on.
void WorkerNode::Leave(bool say_so) {
  env_->Trace(site_, fmt::format("leaves attempt {} while {}", attempt_, WorkerPhaseName(phase())));
  round_.reset();
  deadline_.reset();
  vector_.clear();
  training_ = false;
  disk_->Append("journal", Encode({kOver, attempt_, kErased, {}}), true);
  entered_.insert(attempt_);
  disk_->Remove(VectorFile(attempt_));
  if (say_so) env_->SendToCoordinator(site_, Dropout{attempt_});
}

// ---- Step 5.

bool WorkerNode::Charged() const { return ReadLedger(disk_->ReadDurable("ledger")).contains(attempt_); }

bool WorkerNode::Begun() const {
  return std::ranges::any_of(disk_->ReadDurable("journal"), [this](const Bytes& bytes) {
    const JournalRecord record = Decode(bytes);
    return record.attempt == attempt_ && record.kind == kSnapshot && record.phase >= kInputBegun;
  });
}

void WorkerNode::Charge() {
  if (ReadLedger(disk_->Read("ledger")).contains(attempt_)) return;  // paid for before a crash
  CanonicalWriter w;
  w.U32(attempt_);
  disk_->Append("ledger", w.bytes(), true);
  env_->monitor().LedgerHolds(site_, ReadLedger(disk_->ReadDurable("ledger")));
}

void WorkerNode::MayBegin() {
  if (!round_.has_value() || round_->phase() != kReady) return;
  if (env_->sabotage() != Sabotage::kWorkerChargesLate) Charge();
  auto effects = round_->BeginInput(env_->now());
  if (!effects.ok()) return Carry(effects.status());
  Carry(std::move(effects));
  EncodeAndMask();
}

void WorkerNode::EncodeAndMask() {
  const auto masks = round_->TakeMasks();
  if (!masks.ok()) return Carry(masks.status());
  env_->monitor().MasksTaken(site_, round_->t2());
  // Every encoding rounds and adds noise anew, so no two are alike.
  std::vector<uint32_t> x(env_->world().offer.elements);
  random_.Fill({reinterpret_cast<uint8_t*>(x.data()), 4 * x.size()});
  env_->monitor().Encoded(site_, attempt_, x);
  MaskStream(*masks).Apply(0, x);
  const ByteView y(reinterpret_cast<const uint8_t*>(x.data()), 4 * x.size());
  disk_->Remove(VectorFile(attempt_));
  vector_.clear();
  for (uint64_t offset = 0; offset < y.size(); offset += piece_bytes_) {
    const ByteView piece = y.subspan(offset, std::min<uint64_t>(piece_bytes_, y.size() - offset));
    disk_->Append(VectorFile(attempt_), piece, false);
    vector_.insert(vector_.end(), piece.begin(), piece.end());
    if (env_->rng().Chance(0.5)) SendPiece(offset);
  }
  SendPiece(0);
}

void WorkerNode::SendPiece(uint64_t offset) {
  if (offset >= vector_.size()) return;
  const size_t n = std::min<size_t>(piece_bytes_, vector_.size() - offset);
  const ByteView piece = ByteView(vector_).subspan(offset, n);
  env_->monitor().VectorLeaves(site_, round_->t2(), offset, piece, Charged(), Begun());
  env_->SendToCoordinator(site_, Chunk{attempt_, offset, ToBytes(piece)});
}

void WorkerNode::OnAck(const Ack& ack) {
  if (!round_.has_value() || ack.attempt != attempt_) return;
  if (phase() != kInputBegun && phase() != kInputSent) return;
  const uint64_t total = 4 * env_->world().offer.elements;
  if (ack.stored < total) {
    SendPiece(ack.stored);
    if (env_->rng().Chance(0.5)) SendPiece(ack.stored + piece_bytes_);
    return;
  }
  if (!VectorIsWhole()) return;  // a repeated delivery brings the header out again
  if (env_->sabotage() == Sabotage::kWorkerChargesLate) Charge();
  Carry(round_->OnInput(env_->world().offer.elements, crypto::Sha256(vector_), env_->now()));
}

}  // namespace concordat::sim
