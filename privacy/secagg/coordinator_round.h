#ifndef CONCORDAT_PRIVACY_SECAGG_COORDINATOR_ROUND_H_
#define CONCORDAT_PRIVACY_SECAGG_COORDINATOR_ROUND_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "privacy/crypto/signature.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/peer_verifier.h"
#include "privacy/secagg/refusal.h"

namespace concordat::secagg {

/// Where the coordinator stands in an attempt.
///
///   kIdle ─Start→ kAdverts ─U1→ kShares ─U2→ kInput ─U3→ kAgreement ─≥t→ kUnmask ─≥t→ kSummed ─Finish→ kDone
///   any of them → kAborted
/// A step ends when every site that is still connected has answered, or at its deadline.
enum class CoordinatorPhase : uint8_t {
  kIdle = 0,
  kAdverts = 1,
  kShares = 2,
  kInput = 3,
  kAgreement = 4,
  kUnmask = 5,
  kSummed = 6,
  kDone = 7,
  kAborted = 8,
};
std::string_view CoordinatorPhaseName(CoordinatorPhase phase);

using CoordinatorMessage = std::variant<Signed<Offer>, Signed<Keys>, Signed<Delivery>, Signed<Survivors>,
                                        Signed<AgreementBundle>, Signed<Result>>;

/// A message for one site. Those that are the same for everyone share one object.
struct Outgoing {
  SiteIndex to = 0;
  std::shared_ptr<const CoordinatorMessage> message;
};

/// A site that takes no further part: it is not in the next set. An upload already added stays in the sum.
struct DroppedSite {
  SiteIndex site = 0;
  CoordinatorPhase phase{};  // the step it missed
  RefusalCode code{};  // kLate at a deadline, kLost when its connection is gone, kUntrustedPeer: outdated
};

/// Why an attempt ended without a sum.
struct Aborted {
  enum class Code : uint8_t {
    kTooFewAdverts = 1,
    kTooFewShares = 2,
    kTooFewInputs = 3,
    kTooFewAgreements = 4,
    kTooFewUnmasks = 5,
    kComplaint = 6,  // `accuser` against `accused`: leave one of them out next time
    kConvicted = 7,  // `accused` dealt shares that match their commitments and rebuild a wrong secret
    kCancelled = 8,  // by the shell
  };
  Code code{};
  SiteIndex accuser = 0;
  SiteIndex accused = 0;
  std::string message;
};
std::string_view AbortName(Aborted::Code code);

/// What must be taken off the sum of the survivors' y_i to leave the sum of their x_i: apply `keys` with
/// MaskDirection::kApply (signs are set so). Holds rebuilt secrets: drop it as soon as it is used.
struct UnmaskWork {
  std::vector<MaskKey> keys;
  std::vector<SiteIndex> survivors;
};

/// What the shell does after an event, in this order:
///   1. persist  `survivors` when set: U3 is written ahead of step 6 and never differs for this attempt.
///   2. add      the uploads of `accept` to the running sum. Uploads of others are deleted unread.
///   3. send     `send`, each to its site.
///   4. deadline when it passes, call OnTimer. Replaces the one before. Empty: leave it as it is.
///   5. publish  `phase`, `dropped`, then `unmask` or `aborted`.
struct CoordinatorEffects {
  std::optional<std::vector<SiteIndex>> survivors;
  std::vector<SiteIndex> accept;
  std::vector<Outgoing> send;
  std::optional<Instant> deadline;
  CoordinatorPhase phase{};
  std::vector<DroppedSite> dropped;
  std::optional<UnmaskWork> unmask;
  std::optional<Aborted> aborted;
};

/// The coordinator's side of one attempt (J, r, a): steps 0 to 9 of docs/SECURE_AGGREGATION.md.
///
/// Every message of a site is checked before it changes anything: a refused one gives a status with a
/// RefusalCode and leaves the object as it was, and the site may still send a right one in time. The same
/// message again changes nothing and is answered with empty effects; another one for the same step is refused
/// with kRepeatDiffers (the shell keeps both as evidence). No clock, lock, file or log inside; not
/// thread-safe.
class CoordinatorRound {
 public:
  /// \param offer complete; CheckOfferIsSound must accept it, else InvalidArgument from Start
  /// \param key the coordinator's charter key; must outlive this object, like `peers`
  /// \param chains each roster site's certificate chain, PEM, leaf first
  /// \param pairwise the job asks for pairwise keys (pairwise.h): dealers leave pair seals, holders get their
  /// tags
  CoordinatorRound(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
                   std::map<SiteIndex, std::string> chains, bool pairwise = false);
  ~CoordinatorRound();
  CoordinatorRound(CoordinatorRound&&) noexcept;
  CoordinatorRound& operator=(CoordinatorRound&&) noexcept;

  /// Step 0: the offer to every site. PermissionDenied when a chain is not its roster entry's, or might not
  /// outlast the attempt (CheckMember).
  StatusOr<CoordinatorEffects> Start(Instant now);
  StatusOr<CoordinatorEffects> OnAdvert(const Signed<Advert>& advert, Instant now);
  StatusOr<CoordinatorEffects> OnShares(const Signed<Shares>& shares, Instant now);
  /// Ends the attempt. kLate once the complainer's own upload is in, and when more than deadlines.shares_ms
  /// have passed since the delivery: who looks at its shares at once has no need of more.
  StatusOr<CoordinatorEffects> OnComplaint(const Signed<Complaint>& complaint, Instant now);
  /// Step 5: the shell has `site`'s whole upload, of this length and digest, in its spool. On success the
  /// site is in `accept`; after a refusal the spool is deleted unread (kLate: U3 is fixed).
  StatusOr<CoordinatorEffects> OnUploaded(SiteIndex site, uint64_t elements, const Digest& sha256,
                                          const Signed<InputHeader>& header, Instant now);
  StatusOr<CoordinatorEffects> OnAgreement(const Signed<Agreement>& agreement, Instant now);
  StatusOr<CoordinatorEffects> OnUnmask(const Signed<Unmask>& unmask, Instant now);
  /// The connection to `site` is gone: nobody waits for it any longer. It may still answer in time.
  StatusOr<CoordinatorEffects> OnLost(SiteIndex site, Instant now);
  /// `site` is connected again: gets the message of the current step again if it is still a member. NotFound
  /// when it is not.
  StatusOr<CoordinatorEffects> OnRejoined(SiteIndex site, Instant now);
  /// Call at the deadline; earlier calls change nothing.
  StatusOr<CoordinatorEffects> OnTimer(Instant now);
  /// Step 9, once the sum is unmasked: Signed<Result> to every survivor.
  StatusOr<CoordinatorEffects> Finish(const Digest& new_adapter, const Digest& sum_sha256, Instant now);
  /// Ends the attempt for the shell's reasons.
  CoordinatorEffects Cancel(std::string_view why);

  CoordinatorPhase phase() const;
  const Offer& offer() const;
  /// U1, U2, U3, sorted; empty before they are fixed.
  const std::vector<SiteIndex>& advertised() const;
  const std::vector<SiteIndex>& dealers() const;
  const std::vector<SiteIndex>& survivors() const;
  /// Sites whose answer to the current step is still awaited.
  std::vector<SiteIndex> awaited() const;
  /// True while an upload from `site` would be accepted: streams of others are refused at their first chunk.
  bool MayUpload(SiteIndex site) const;
  const Digest& t0() const;
  const Digest& t1() const;
  const Digest& t2() const;

 private:
  class Machine;
  std::unique_ptr<Machine> machine_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_COORDINATOR_ROUND_H_
