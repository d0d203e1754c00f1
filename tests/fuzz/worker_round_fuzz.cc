// A worker's machine against a coordinator that also holds every other site's key: true messages, edited
// ones, old ones, in any order, and restarts from what was persisted. Each byte of the input is a choice; the
// first may say that identities are on P-256 and that the job has pairwise keys (TakeMode).
//
// Whatever is said: one body for each of its messages, for ever; masks handed out once; both kinds of share
// opened for nobody; nothing new is sent before it is persisted; what is refused changes nothing.
#include <algorithm>
#include <set>
#include <utility>

#include "tests/fuzz/attempt_script.h"
#include "tests/fuzz/edits.h"

namespace concordat::fuzz {
namespace {

constexpr SiteIndex kSelf = 1;
constexpr int kMostMoves = 48;

/// What one worker has said in its life, restarts included.
class Said {
 public:
  /// Returns true when nothing of its kind was said before.
  bool Add(const WorkerMessage& message) {
    const auto [known, is_new] = said_.emplace(message.index(), WholeBytes(message));
    Must(is_new || known->second == WholeBytes(message), "a worker has one answer for each step");
    Must(!(Has<Signed<Complaint>>() && Has<Signed<InputHeader>>()), "who complains uploads nothing");
    if (const auto* agreement = std::get_if<Signed<Agreement>>(&message)) u3_ = agreement->body.survivors;
    if (const auto* unmask = std::get_if<Signed<Unmask>>(&message)) Opened(unmask->body);
    return is_new;
  }

 private:
  template <typename T>
  bool Has() const {
    return said_.contains(WorkerMessage(T{}).index());
  }
  void Opened(const Unmask& m) {
    Must(Has<Signed<Agreement>>(), "shares are opened for an agreed U3");
    std::set<SiteIndex> dealers;
    for (const OpenedShare& s : m.seed_shares) {
      Must(dealers.insert(s.dealer).second, "one share for one dealer");
      Must(std::ranges::binary_search(u3_, s.dealer), "seeds are opened of survivors");
    }
    for (const OpenedShare& s : m.mask_key_shares) {
      Must(dealers.insert(s.dealer).second, "never both kinds of share for one site");
      Must(!std::ranges::binary_search(u3_, s.dealer), "mask keys are opened of the lost");
    }
  }
  std::map<size_t, Bytes> said_;
  std::vector<SiteIndex> u3_;
};

class Play {
 public:
  explicit Play(Choices c)
      : c_(c), mode_(TakeMode(c_)), editor_(TheWorld(mode_), kSelf, c_), attempt_(TheWorld(mode_)) {}
  void Run() {
    for (int i = 0; i < kMostMoves && !c_.done(); ++i) Move();
  }

 private:
  const Script& script() { return TheScript(lossy_, mode_); }
  WorkerRound& worker() { return attempt_.worker(kSelf); }

  void Move() {
    switch (c_.Below(10)) {
      case 0:
      case 1:
        return Honest();
      case 2:
        lossy_ = !lossy_;
        return;
      case 3:
        return TellTrue(c_.Below(6));
      case 4:
        return Upload();
      case 5:
        return Restart();
      case 6:
        attempt_.Wait(1000 * static_cast<int64_t>(c_.Byte()));
        return;
      case 7:
        if (c_.Byte() == 7) worker().Erase(), erased_ = true;
        return;
      default:
        return TellEdited(c_.Below(6));
    }
  }
  /// What the step that it is in expects.
  void Honest() {
    switch (worker().phase()) {
      case WorkerPhase::kIdle:
        return TellTrue(0);
      case WorkerPhase::kAdvertised:
        return TellTrue(1);
      case WorkerPhase::kShared:
        return TellTrue(2);
      case WorkerPhase::kReady:
        return Took([&] { return worker().BeginInput(attempt_.now()); });
      case WorkerPhase::kInputBegun:
        TakeMasks();
        return Sent(Recorder::Upload256(kSelf));
      case WorkerPhase::kInputSent:
        return TellTrue(3);
      case WorkerPhase::kAgreed:
        return TellTrue(4);
      default:
        return TellTrue(5);
    }
  }
  void TellTrue(size_t kind) { Tell(True(kind)); }
  CoordinatorMessage True(size_t kind) {
    const Script& s = script();
    if (kind == 0) return s.offer;
    if (kind == 1) return s.keys;
    if (kind == 2) return s.deliveries.at(static_cast<SiteIndex>(kSelf + (c_.Below(16) == 15 ? 1 : 0)));
    if (kind == 3) return s.survivors;
    if (kind == 4) return s.bundle;
    return s.result;
  }
  void TellEdited(size_t kind) {
    CoordinatorMessage message = True(kind);
    std::visit([&](auto& m) { EditAndSign(m); }, message);
    Tell(message);
  }
  template <typename T>
  void EditAndSign(Signed<T>& m) {
    for (size_t more = 1 + c_.Below(3); more > 0; --more) editor_.Edit(m.body);
    if (c_.Below(8) != 7) m = Sign(TheWorld(mode_).coordinator, std::move(m.body));
  }
  void Tell(const CoordinatorMessage& message) {
    Took([&] { return attempt_.AtWorker(kSelf, message); });
  }
  void TakeMasks() {
    const auto masks = worker().TakeMasks();
    if (!masks.ok()) return;
    Must(!std::exchange(masks_taken_, true), "masks are handed out once");
  }
  void Sent(const Digest& sha256) { Sent(sha256, TheWorld(mode_).offer.elements); }
  void Sent(const Digest& sha256, uint64_t elements) {
    Took([&] { return worker().OnInput(elements, sha256, attempt_.now()); });
  }
  /// Step 5, in any order.
  void Upload() {
    switch (c_.Below(4)) {
      case 0:
        return Took([&] { return worker().BeginInput(attempt_.now()); });
      case 1:
        return TakeMasks();
      case 2:
        return Sent(DigestFor("another vector"));
      default:
        return Sent(Recorder::Upload256(kSelf), c_.Byte());
    }
  }
  template <typename F>
  void Took(F event) {
    const WorkerPhase before = worker().phase();
    const Digest t1 = worker().t1(), t2 = worker().t2();
    const auto effects = event();
    const WorkerPhase after = worker().phase();
    if (!effects.ok()) {
      Must(after == before && worker().t1() == t1 && worker().t2() == t2, "a refusal changes nothing");
      return;
    }
    Must(effects->phase == after && after >= before, "a worker goes forward");
    Must(!erased_, "an erased worker takes nothing");
    if (effects->persist.has_value()) {
      Must(effects->persist->phase == after, "what is persisted is where it stands");
      snapshot_ = ToBytes(effects->persist->snapshot.view());
    }
    Must(after == before || effects->persist.has_value(), "a step is persisted");
    if (effects->send.has_value() && said_.Add(*effects->send))
      Must(effects->persist.has_value(), "nothing new is sent before it is persisted");
  }
  /// The process ended; the next one has what was persisted.
  void Restart() {
    if (erased_) return;
    if (snapshot_.empty()) return attempt_.ReplaceWorker(kSelf, std::move(*attempt_.NewWorker(kSelf)));
    auto restored = attempt_.RestoreWorker(kSelf, snapshot_);
    Must(restored.ok(), "a worker's snapshot restores it");
    Must(restored->phase() == worker().phase() && restored->t0() == worker().t0() &&
             restored->t1() == worker().t1() && restored->t2() == worker().t2() &&
             restored->survivors() == worker().survivors(),
         "a restored worker stands where it stood");
    attempt_.ReplaceWorker(kSelf, *std::move(restored));
  }

  Choices c_;
  Mode mode_;
  Editor editor_;
  Attempt attempt_;  // its worker kSelf only
  bool lossy_ = false, erased_ = false, masks_taken_ = false;
  Said said_;
  Bytes snapshot_;
};

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  concordat::fuzz::Play(concordat::fuzz::Choices(data, size)).Run();
  return 0;
}
