#include "tests/sim/coordinator_node.h"

#include <algorithm>

#include "common/canonical.h"

namespace concordat::sim {
namespace {

using namespace secagg;
using enum CoordinatorPhase;

constexpr Millis kGrace{15'000};
// Records of "attempts".
constexpr uint8_t kBegun = 1;
constexpr uint8_t kFinished = 2;

bool IsTiming(const Status& status) {
  const RefusalCode code = RefusalCodeOf(status);
  return code == RefusalCode::kWrongPhase || code == RefusalCode::kWrongAttempt || code == RefusalCode::kLate;
}

}  // namespace

CoordinatorNode::CoordinatorNode(Env& env, Disk& disk) : env_(&env), disk_(&disk) { Recover(); }

// ---- Start and restart.

void CoordinatorNode::Recover() {
  std::optional<AttemptIndex> last;
  for (const Bytes& record : disk_->Read("attempts")) {
    CanonicalReader r(record);
    const uint8_t kind = r.U8();
    last = r.U32();
    if (kind == kFinished) finished_ = ToBytes(r.Blob(record.size()));
  }
  if (last.has_value()) attempt_ = *last;
  if (!last.has_value()) return StartAttempt();
  if (finished_.has_value()) return;  // its Result is made again from the record when a worker asks
  Resume();
}

void CoordinatorNode::Resume() {
  std::vector<Bytes> records = disk_->Read(LogFile());
  if (env_->sabotage() == Sabotage::kCoordinatorForgetsLog && !records.empty()) {
    records.resize(1);
    disk_->Remove(LogFile());
    disk_->Append(LogFile(), records[0], true);
  }
  if (records.empty()) {  // died before the offer was made: the number is spent, nobody has seen it
    ++attempt_;
    return StartAttempt();
  }
  auto round = LoggedRound::Replay(env_->world().coordinator, env_->world().verifier, records, env_->now(),
                                   kGrace, !env_->world().pairwise.empty());
  if (!round.ok()) {
    env_->monitor().Fail("durable-lost", std::string(Message(round.status())));
    spent_ = true;
    return;
  }
  round_ = *std::move(round);
  env_->Trace(0, fmt::format("replayed {} records of attempt {}: {}", records.size(), attempt_,
                             CoordinatorPhaseName(round_->round().phase())));
  if (round_->ended().has_value()) {
    ++attempt_;
    return StartAttempt();
  }
  CheckUploads();
  if (round_.has_value() && round_->deadline().has_value()) {
    env_->CallAt(0, *round_->deadline(), [this] { OnTimer(); });
  }
}

// What the log says was stored must be there: it was synced before.
void CoordinatorNode::CheckUploads() {
  for (const auto& [site, header] : round_->uploads()) {
    const Bytes y = Spooled(site);
    if (y.size() == 4 * header.body.elements && crypto::Sha256(y) == header.body.sha256) continue;
    env_->monitor().Fail("durable-lost", fmt::format("the upload of site {}", site));
    return Take(round_->Cancel("an upload is gone", env_->now()));
  }
}

void CoordinatorNode::StartAttempt() {
  round_.reset();
  work_.reset();
  if (attempt_ >= env_->attempts_allowed()) {
    spent_ = true;
    return;
  }
  env_->Trace(0, fmt::format("attempt {} begins", attempt_));
  CanonicalWriter w;
  w.U8(kBegun);
  w.U32(attempt_);
  w.Blob({});
  disk_->Append("attempts", w.bytes(), true);
  Offer offer = env_->world().offer;
  offer.id.attempt = attempt_;
  round_.emplace(std::move(offer), env_->world().coordinator, env_->world().verifier, env_->world().Chains(),
                 !env_->world().pairwise.empty());
  Take(round_->Start(env_->now()));
}

// ---- record, send, deadline, publish.

// U3 as a power cut now would leave it, read without LoggedRound; empty while step 5 is open.
std::vector<SiteIndex> CoordinatorNode::DurableSurvivors() const {
  std::vector<SiteIndex> sites;
  bool fixed = false;
  for (const Bytes& record : disk_->ReadDurable(LogFile())) {
    const auto event = DecodeEvent(record);
    if (!event.ok()) return {};
    const auto* header = std::get_if<Signed<InputHeader>>(&event->what);
    if (header != nullptr) sites.push_back(header->body.site);
    fixed = fixed || event->after == kAgreement;
  }
  std::ranges::sort(sites);
  return fixed ? sites : std::vector<SiteIndex>();
}

void CoordinatorNode::Send(const std::vector<Outgoing>& messages) {
  for (const Outgoing& out : messages) {
    const bool names_u3 = std::holds_alternative<Signed<Survivors>>(*out.message);
    env_->monitor().CoordinatorSends(out.to, *out.message,
                                     names_u3 ? DurableSurvivors() : std::vector<SiteIndex>());
    env_->SendToWorker(out.to, out.message);
  }
}

void CoordinatorNode::Take(StatusOr<LoggedEffects> effects) {
  if (!effects.ok()) {
    if (!IsTiming(effects.status()) && effects.status().code() != StatusCode::kNotFound) {
      env_->monitor().Fail("honest-refusal", fmt::format("coordinator: {}", Message(effects.status())));
    }
    return;
  }
  const bool send_first = env_->sabotage() == Sabotage::kCoordinatorSendsFirst;
  if (send_first) Send(effects->send);
  if (effects->record.has_value()) disk_->Append(LogFile(), *effects->record, true);
  if (!send_first) Send(effects->send);
  if (effects->deadline.has_value()) env_->CallAt(0, *effects->deadline, [this] { OnTimer(); });
  for (const DroppedSite& dropped : effects->dropped) {
    env_->Trace(0, fmt::format("without site {} at {}", dropped.site, CoordinatorPhaseName(dropped.phase)));
  }
  if (effects->unmask.has_value()) {
    work_ = std::move(effects->unmask);
    env_->CallAt(0, env_->now() + Millis(env_->rng().Between(1, 500)), [this] { Sum(); });
  }
  if (effects->aborted.has_value()) {
    if (effects->aborted->accused != 0) {
      env_->monitor().Fail("honest-refusal", fmt::format("site {} is accused: {}", effects->aborted->accused,
                                                         effects->aborted->message));
    }
    env_->Trace(0, fmt::format("attempt {} aborted: {}", attempt_, effects->aborted->message));
    for (uint32_t i = 1; i <= env_->world().n(); ++i) {
      env_->SendToWorker(static_cast<SiteIndex>(i), Abandoned{attempt_});
    }
    round_.reset();  // the object that gave these effects: nothing of it is used below
    env_->CallAt(0, env_->now() + Millis(1'000), [this] {
      ++attempt_;
      StartAttempt();
    });
  }
}

void CoordinatorNode::OnTimer() {
  if (!round_.has_value() || finished_.has_value()) return;
  if (!round_->deadline().has_value() || env_->now() < *round_->deadline()) return;
  Take(round_->OnTimer(env_->now()));
}

// ---- Connections.

void CoordinatorNode::OnConnected(SiteIndex site, uint64_t connection) {
  connections_[site] = std::max(connections_[site], connection);
  if (finished_.has_value()) return PublishResult(site);
  if (!round_.has_value()) return;
  Take(round_->OnRejoined(site, env_->now()));
  if (round_.has_value() && round_->round().MayUpload(site)) {
    env_->SendToWorker(site, Ack{attempt_, Spooled(site).size()});
  }
}

void CoordinatorNode::OnLost(SiteIndex site, uint64_t connection) {
  // A connection that comes back soon was never gone: a step must not end without its site for a short cut.
  env_->CallAt(0, env_->now() + env_->patience(), [this, site, connection] {
    if (connections_[site] != connection || !round_.has_value() || finished_.has_value()) return;
    Take(round_->OnLost(site, env_->now()));
  });
}

void CoordinatorNode::OnDropout(SiteIndex site, const Dropout& dropout) {
  if (round_.has_value() && !finished_.has_value() && dropout.attempt == attempt_) {
    Take(round_->OnLost(site, env_->now()));
  }
}

// ---- Messages.

void CoordinatorNode::OnMessage(SiteIndex site, const WorkerMessage& message) {
  if (!round_.has_value() || finished_.has_value()) return;
  const Instant now = env_->now();
  if (const auto* m = std::get_if<Signed<Advert>>(&message)) return Take(round_->OnAdvert(*m, now));
  if (const auto* m = std::get_if<Signed<Shares>>(&message)) return Take(round_->OnShares(*m, now));
  if (const auto* m = std::get_if<Signed<Complaint>>(&message)) return Take(round_->OnComplaint(*m, now));
  if (const auto* m = std::get_if<Signed<Agreement>>(&message)) return Take(round_->OnAgreement(*m, now));
  if (const auto* m = std::get_if<Signed<Unmask>>(&message)) return Take(round_->OnUnmask(*m, now));
  OnHeader(site, std::get<Signed<InputHeader>>(message));
}

Bytes CoordinatorNode::Spooled(SiteIndex site) const {
  Bytes out;
  for (const Bytes& piece : disk_->Read(SpoolFile(site))) out.insert(out.end(), piece.begin(), piece.end());
  return out;
}

void CoordinatorNode::OnChunk(SiteIndex site, const Chunk& chunk) {
  if (!round_.has_value() || chunk.attempt != attempt_) return;
  if (!round_->round().MayUpload(site)) return;
  uint64_t stored = Spooled(site).size();
  const uint64_t end = chunk.offset + chunk.bytes.size();
  if (chunk.offset <= stored && end > stored) {
    disk_->Append(SpoolFile(site), ByteView(chunk.bytes).subspan(stored - chunk.offset), false);
    stored = end;
  }
  env_->SendToWorker(site, Ack{attempt_, stored});
}

void CoordinatorNode::OnHeader(SiteIndex site, const Signed<InputHeader>& header) {
  if (header.body.id.attempt != attempt_) return;
  const Bytes y = Spooled(site);
  if (round_->round().MayUpload(site)) {
    if (y.size() < 4 * header.body.elements) return env_->SendToWorker(site, Ack{attempt_, y.size()});
    disk_->Sync(SpoolFile(site));
  }
  Take(round_->OnUploaded(site, y.size() / 4, crypto::Sha256(y), header, env_->now()));
}

// ---- The sum.

void CoordinatorNode::Sum() {
  if (!work_.has_value()) return;
  std::vector<uint32_t> sum(env_->world().offer.elements, 0);
  for (const SiteIndex site : work_->survivors) {
    const Bytes y = Spooled(site);
    std::vector<uint32_t> words(sum.size(), 0);
    std::memcpy(words.data(), y.data(), std::min(y.size(), 4 * words.size()));
    for (size_t e = 0; e < sum.size(); ++e) sum[e] += words[e];
  }
  MaskStream(work_->keys).Apply(0, sum);
  work_.reset();
  env_->monitor().Finished(attempt_, round_->round().survivors(), sum);
  const Digest digest = secagg::testing::DigestOfWords(sum);
  auto effects = round_->Finish(digest, digest, env_->now());
  if (!effects.ok()) return Take(effects.status());
  CanonicalWriter w;
  w.U8(kFinished);
  w.U32(attempt_);
  w.Blob(digest.view());
  disk_->Append("attempts", w.bytes(), true);
  finished_ = ToBytes(digest.view());
  env_->Trace(0, fmt::format("attempt {} has its sum", attempt_));
  Take(std::move(effects));
}

// A worker that missed the result gets it again, the same bytes.
void CoordinatorNode::PublishResult(SiteIndex to) {
  if (!result_.has_value()) {
    const auto round =
        LoggedRound::Replay(env_->world().coordinator, env_->world().verifier, disk_->Read(LogFile()),
                            env_->now(), kGrace, !env_->world().pairwise.empty());
    if (!round.ok()) return env_->monitor().Fail("durable-lost", std::string(Message(round.status())));
    const Digest digest = Digest::From(*finished_).value_or(Digest{});
    result_ = Sign(env_->world().coordinator, Result{round->round().offer().id, round->round().t2(),
                                                     round->round().survivors(), digest, digest});
  }
  if (!std::ranges::binary_search(result_->body.survivors, to)) return;
  Send({{to, std::make_shared<const CoordinatorMessage>(*result_)}});
}

}  // namespace concordat::sim
