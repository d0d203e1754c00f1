// What both machines read back after a restart: records of the coordinator's log, a worker's snapshot. Any
// bytes, and true ones with some changed. The first byte says which, after one that may say the attempt's
// mode (TakeMode).
//
// What is read is what would be written, and no state that is read makes a machine do worse than refuse.
#include <algorithm>

#include "tests/fuzz/attempt_script.h"
#include "tests/fuzz/edits.h"

namespace concordat::fuzz {
namespace {

constexpr int kMostEdits = 16;

void ReadRecord(ByteView record) {
  const auto event = DecodeEvent(record);
  if (!event.ok()) {
    Must(event.status().code() == StatusCode::kDataLoss, "a bad record is DataLoss");
    return;
  }
  Must(EncodeEvent(*event) == ToBytes(record), "a record is what EncodeEvent writes");
}

/// Everything that could come next, whatever the state says is next.
void GoOn(Attempt& attempt, bool lossy, Mode mode) {
  const Script& s = TheScript(lossy, mode);
  WorkerRound& worker = attempt.worker(1);
  for (const CoordinatorMessage& message :
       {CoordinatorMessage(s.offer), CoordinatorMessage(s.keys), CoordinatorMessage(s.deliveries.at(1))})
    (void)attempt.AtWorker(1, message);
  (void)worker.BeginInput(attempt.now());
  (void)worker.TakeMasks();
  (void)worker.OnInput(TheWorld(mode).offer.elements, Recorder::Upload256(1), attempt.now());
  for (const CoordinatorMessage& message :
       {CoordinatorMessage(s.survivors), CoordinatorMessage(s.bundle), CoordinatorMessage(s.result)})
    (void)attempt.AtWorker(1, message);
}

void ReadSnapshot(ByteView snapshot, bool lossy, Mode mode) {
  const auto state = DecodeWorkerState(snapshot);
  if (!state.ok()) {
    Must(state.status().code() == StatusCode::kDataLoss, "a bad snapshot is DataLoss");
    return;
  }
  const crypto::SecretText again = EncodeWorkerState(*state);
  Must(std::ranges::equal(again.view(), snapshot), "a snapshot is what EncodeWorkerState writes");
  Attempt attempt(TheWorld(mode));
  auto restored = attempt.RestoreWorker(1, snapshot);
  if (!restored.ok()) return;
  attempt.ReplaceWorker(1, *std::move(restored));
  Must(!attempt.worker(1).TakeMasks().ok(), "no masks right after a restart");
  GoOn(attempt, lossy, mode);
}

void ReadEditedSnapshot(Choices& c, Mode mode) {
  const bool lossy = c.Below(2) == 1;
  const auto& snapshots = TheScript(lossy, mode).snapshots;
  Bytes snapshot = snapshots[c.Below(snapshots.size())];
  if (c.Below(8) == 7) snapshot.resize(c.Below(snapshot.size()));
  for (int i = 0; i < kMostEdits && !c.done(); ++i) Flip(c, snapshot);
  ReadSnapshot(snapshot, lossy, mode);
}

void ReadEditedLog(Choices& c, Mode mode) {
  const World& world = TheWorld(mode);
  std::vector<Bytes> log = TheScript(c.Below(2) == 1, mode).log;
  for (int i = 0; i < kMostEdits && !c.done(); ++i) {
    if (c.Below(4) == 0) {
      EditList(c, log);
    } else if (!log.empty()) {
      Flip(c, log[c.Below(log.size())]);
    }
  }
  auto replayed =
      LoggedRound::Replay(world.coordinator, world.verifier, log, At(0), Millis(1000), HasPairwise(mode));
  if (!replayed.ok()) {
    Must(replayed.status().code() == StatusCode::kDataLoss, "a bad log is DataLoss");
    return;
  }
  for (SiteIndex site = 1; site <= world.n(); ++site) (void)replayed->OnRejoined(site, At(1));
  const auto deadline = replayed->deadline();
  (void)replayed->OnTimer(deadline.value_or(At(2)));
  (void)replayed->Finish(DigestFor("new adapter"), DigestFor("sum"), At(3));
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::fuzz;
  Choices c(data, size);
  const Mode mode = TakeMode(c);
  switch (c.Below(4)) {
    case 0:
      ReadRecord(c.Rest());
      return 0;
    case 1:
      ReadSnapshot(c.Rest(), false, mode);
      return 0;
    case 2:
      ReadEditedSnapshot(c, mode);
      return 0;
    default:
      ReadEditedLog(c, mode);
      return 0;
  }
}
