#ifndef CONCORDAT_PRIVACY_SECAGG_WORKER_ROUND_H_
#define CONCORDAT_PRIVACY_SECAGG_WORKER_ROUND_H_

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "privacy/crypto/signature.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/peer_verifier.h"
#include "privacy/secagg/refusal.h"
#include "privacy/secagg/worker_bounds.h"

namespace concordat::secagg {

/// Where a worker stands in an attempt. The numbers are journaled.
///
///   kIdle ─OnOffer→ kAdvertised ─OnKeys→ kShared ─OnDelivery→ kReady ─BeginInput→ kInputBegun
///     ─OnInput→ kInputSent ─OnSurvivors→ kAgreed ─OnAgreementBundle→ kUnmasked ─OnResult→ kDone
///   kShared ─OnDelivery, something does not match→ kComplained          any ─Erase→ kErased
enum class WorkerPhase : uint8_t {
  kIdle = 0,
  kAdvertised = 1,
  kShared = 2,
  kReady = 3,
  kInputBegun = 4,
  kInputSent = 5,
  kAgreed = 6,
  kUnmasked = 7,
  kDone = 8,
  kComplained = 9,
  kErased = 10,
};
std::string_view WorkerPhaseName(WorkerPhase phase);

using WorkerMessage = std::variant<Signed<Advert>, Signed<Shares>, Signed<Complaint>, Signed<InputHeader>,
                                   Signed<Agreement>, Signed<Unmask>>;

/// What must be durable before a message leaves: the record of (J, r, a) and step, and everything needed to
/// go on. `snapshot` is secret (keys, seed, shares): seal it; it is wiped on destruction.
struct WorkerRecord {
  AttemptId id;
  WorkerPhase phase{};
  crypto::SecretText snapshot;
};

/// What the shell does after an event, in this order:
///   1. persist  write `persist` durably (fsync). When that fails, send nothing and Erase().
///   2. send     `send`, as it is, over the authenticated stream.
///   3. deadline when it passes without the next message the attempt is dead for this worker: Erase().
///   4. publish  `phase`, `complaint`, `result` to whoever watches.
/// A repeated event gives the same `send` again, with nothing to persist.
struct WorkerEffects {
  std::optional<WorkerRecord> persist;
  std::optional<WorkerMessage> send;
  std::optional<Instant> deadline;
  WorkerPhase phase{};
  std::optional<Complaint> complaint;  // also in `send`; the attempt is over for this worker
  std::optional<Result> result;        // verified; the shell recomputes the adapter from the published sum
};

/// One worker in one attempt (J, r, a): steps 0 to 9 of docs/SECURE_AGGREGATION.md.
///
/// Checks everything that the coordinator says before anything answers it. An event that is refused gives a
/// status that carries a RefusalCode (refusal.h) and leaves the object as it was. Events must come with the
/// coordinator's signature; a repeat of one already answered gives the same bytes, a different one for the
/// same step is refused with kRepeatDiffers. No clock, lock, file or log inside; not thread-safe. Secrets are
/// wiped by Erase() and on destruction, b_i and the private keys already once they are of no use. Does not
/// show that the published sum is right; a coordinator can stop an attempt at any step.
class WorkerRound {
 public:
  /// \param self this worker, as the roster names it
  /// \param key its identity key; must outlive this object, like `peers` and `random`
  /// \param coordinator the charter's key for the coordinator
  /// \param ledger_head head of this region's ledger, told to the peers in the advert
  WorkerRound(SpiffeId self, const crypto::SigningKey& key, const PeerVerifier& peers,
              crypto::VerifyKey coordinator, RandomSource& random, WorkerBounds bounds, Digest ledger_head);
  ~WorkerRound();
  WorkerRound(WorkerRound&&) noexcept;
  WorkerRound& operator=(WorkerRound&&) noexcept;
  WorkerRound(const WorkerRound&) = delete;  // two copies could answer one step twice
  WorkerRound& operator=(const WorkerRound&) = delete;

  /// Goes on from a WorkerRecord's snapshot after a restart, with the same parameters. DataLoss when it does
  /// not parse or is another attempt's or another worker's; kPairwiseKey when the region's pairwise keys are
  /// no longer those that it dealt by. Masks are handed out before kInputBegun only.
  static StatusOr<WorkerRound> Restore(SpiffeId self, const crypto::SigningKey& key,
                                       const PeerVerifier& peers, crypto::VerifyKey coordinator,
                                       RandomSource& random, WorkerBounds bounds, Digest ledger_head,
                                       ByteView snapshot);

  /// The offer that a snapshot's attempt began with. DataLoss as Restore.
  static StatusOr<Offer> OfferIn(ByteView snapshot);

  /// Step 0. Sends Signed<Advert>.
  StatusOr<WorkerEffects> OnOffer(const Signed<Offer>& offer, Instant now);
  /// Step 2. Sends Signed<Shares>.
  StatusOr<WorkerEffects> OnKeys(const Signed<Keys>& keys, Instant now);
  /// Step 4. Becomes kReady, or sends Signed<Complaint> and is over.
  StatusOr<WorkerEffects> OnDelivery(const Signed<Delivery>& delivery, Instant now);
  /// Before step 5: the charge is made and the vector encoded. Persist the record before the first byte of
  /// y_i is written anywhere or sent: from here on the encoded vector is spent, whatever happens. Only once;
  /// kLate after input_until().
  StatusOr<WorkerEffects> BeginInput(Instant now);
  /// The masks of y_i, own and pairwise: once, after BeginInput. The caller drops them when y_i is written.
  /// kMaskSpent the second time and after a restart.
  StatusOr<std::vector<MaskKey>> TakeMasks();
  /// Step 5, after the last chunk was sent. Sends Signed<InputHeader>. kElements when the length is not the
  /// offer's; with another digest than before: kMaskSpent.
  StatusOr<WorkerEffects> OnInput(uint64_t elements, const Digest& sha256, Instant now);
  /// Step 6. Sends Signed<Agreement>.
  StatusOr<WorkerEffects> OnSurvivors(const Signed<Survivors>& survivors, Instant now);
  /// Step 7. Sends Signed<Unmask>.
  StatusOr<WorkerEffects> OnAgreementBundle(const Signed<AgreementBundle>& bundle, Instant now);
  /// Step 9, also right after step 7 when others' shares were enough. Publishes `result`; secrets are gone
  /// afterwards.
  StatusOr<WorkerEffects> OnResult(const Signed<Result>& result, Instant now);

  /// Wipes every key, share and seed. No event is accepted afterwards.
  void Erase();

  WorkerPhase phase() const;
  /// 0 before OnOffer.
  SiteIndex site() const;
  /// Empty (all zero) before its step.
  const Digest& t0() const;
  const Digest& t1() const;
  const Digest& t2() const;
  /// After this the coordinator takes no input any more: nothing is worth charging for. Set by OnDelivery.
  Instant input_until() const;
  /// U3 as signed; empty before step 6.
  const std::vector<SiteIndex>& survivors() const;
  /// The head of this region's ledger as its advert said it; zero before OnOffer and after OnResult.
  Digest ledger_head() const;

 private:
  class Machine;
  explicit WorkerRound(std::unique_ptr<Machine> machine);
  std::unique_ptr<Machine> machine_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_WORKER_ROUND_H_
