#ifndef CONCORDAT_PRIVACY_SECAGG_COORDINATOR_LOG_H_
#define CONCORDAT_PRIVACY_SECAGG_COORDINATOR_LOG_H_

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "privacy/secagg/coordinator_round.h"

// An attempt that outlives its coordinator's process. A CoordinatorRound decides by its events alone, with
// nothing random inside (Ed25519 is deterministic), so a log of what it accepted gives back the same state
// and the same bytes of every message.
//
// What was decided is logged, not why: a step that ended because a connection was gone must end the same way
// in the replay, and a connection that is gone says nothing after a restart. So a record holds the phase
// after its event, and losses and reconnections are not logged. The log of an attempt has at most 4n + 6
// records.
//
// No record holds a secret. The opened shares of step 8 are never written: a survivor's seed shares leave
// its pairwise masks on, a lost site's mask key leaves its own mask on, so they open no single vector, but
// beside a spooled y_i they are one of the two halves that would. After a restart in kUnmask the agreement
// bundle goes out again and the workers repeat their journaled answers.
namespace concordat::secagg {

/// The first record: the offer and each site's chain. Replayed messages hold the chains of then, whatever a
/// site connects with later.
struct LogStarted {
  Offer offer;
  std::map<SiteIndex, std::string> chains;
};
/// No message came; losses or the deadline ended the step.
struct LogStepClosed {};
/// The last record of an attempt that has no sum.
struct LogEnded {
  Aborted aborted;
};

/// One accepted event and what it led to. An InputHeader stands for the whole upload that was stored and
/// found to be what the header says.
struct CoordinatorEvent {
  using What = std::variant<LogStarted, Signed<Advert>, Signed<Shares>, Signed<InputHeader>,
                            Signed<Agreement>, LogStepClosed, LogEnded>;
  uint32_t seq = 0;  // position in its attempt's log
  Instant at{};
  CoordinatorPhase after{};
  What what;
};

/// Version 1: u8 version, u32 seq, i64 milliseconds since 1970, u8 phase after, u8 kind (position in the
/// variant), then the fields in their order, in the form of common/canonical.h; Shares with pairwise keys end
/// with the list of their pair seals.
Bytes EncodeEvent(const CoordinatorEvent& event);
/// DataLoss when `record` is not what EncodeEvent wrote.
StatusOr<CoordinatorEvent> DecodeEvent(ByteView record);

/// CoordinatorEffects with what comes before them: 0. append `record`, when set, to the attempt's log,
/// durably. When that fails nothing else is carried out, and the object is replaced by what Replay makes of
/// the log. `record` of an upload says that the upload is stored: fsync it first.
struct LoggedEffects : CoordinatorEffects {
  std::optional<Bytes> record;
};

/// CoordinatorRound with its log: the same events, refusals and thread rule. The caller keeps the records in
/// their order, and its own final record once a sum is published (Finish writes none). A log is deleted when
/// its attempt is over.
class LoggedRound {
 public:
  LoggedRound(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
              std::map<SiteIndex, std::string> chains, bool pairwise = false);

  /// The attempt as its log leaves it. Nobody counts as lost: each member has until the step's deadline, but
  /// at least `grace` from `now`, to connect again, and gets the current step's message from OnRejoined. Sum
  /// what `uploads` names from the spool, and cancel the attempt when one is not there. DataLoss when a
  /// record does not parse, or the log does not replay to the phases that it states.
  static StatusOr<LoggedRound> Replay(const crypto::SigningKey& key, const PeerVerifier& peers,
                                      std::span<const Bytes> records, Instant now, Millis grace,
                                      bool pairwise = false);

  StatusOr<LoggedEffects> Start(Instant now);
  StatusOr<LoggedEffects> OnAdvert(const Signed<Advert>& advert, Instant now);
  StatusOr<LoggedEffects> OnShares(const Signed<Shares>& shares, Instant now);
  StatusOr<LoggedEffects> OnComplaint(const Signed<Complaint>& complaint, Instant now);
  StatusOr<LoggedEffects> OnUploaded(SiteIndex site, uint64_t elements, const Digest& sha256,
                                     const Signed<InputHeader>& header, Instant now);
  StatusOr<LoggedEffects> OnAgreement(const Signed<Agreement>& agreement, Instant now);
  StatusOr<LoggedEffects> OnUnmask(const Signed<Unmask>& unmask, Instant now);
  StatusOr<LoggedEffects> OnLost(SiteIndex site, Instant now);
  StatusOr<LoggedEffects> OnRejoined(SiteIndex site, Instant now);
  StatusOr<LoggedEffects> OnTimer(Instant now);
  StatusOr<LoggedEffects> Finish(const Digest& new_adapter, const Digest& sum_sha256, Instant now);
  LoggedEffects Cancel(std::string_view why, Instant now);

  const CoordinatorRound& round() const { return round_; }
  /// When OnTimer is due; empty when nothing is waited for.
  std::optional<Instant> deadline() const;
  /// The accepted uploads, whole and verified, by site.
  const std::map<SiteIndex, Signed<InputHeader>>& uploads() const { return uploads_; }
  /// Set when the log of a replayed attempt ends with an abort.
  const std::optional<Aborted>& ended() const { return ended_; }

 private:
  LoggedRound(CoordinatorRound round, std::map<SiteIndex, std::string> chains)
      : round_(std::move(round)), chains_(std::move(chains)) {}
  Status Apply(const CoordinatorEvent& event);
  Status CloseUntil(CoordinatorPhase after, Instant at);
  // `what` is logged when its step was open before the event and it is its site's first.
  template <typename T>
  StatusOr<LoggedEffects> Answered(StatusOr<CoordinatorEffects> effects, CoordinatorPhase before,
                                   SiteIndex site, CoordinatorPhase step, const T& what, Instant now);
  LoggedEffects Logged(CoordinatorEffects effects, CoordinatorPhase before, Instant now,
                       std::optional<CoordinatorEvent::What> what = std::nullopt);

  CoordinatorRound round_;
  std::map<SiteIndex, std::string> chains_;
  uint32_t next_seq_ = 0;
  std::set<std::pair<CoordinatorPhase, SiteIndex>> answered_;
  std::map<SiteIndex, Signed<InputHeader>> uploads_;
  std::optional<Instant> deadline_;
  std::optional<Instant> hold_until_;  // no deadline counts before, after a replay
  std::optional<Aborted> ended_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_COORDINATOR_LOG_H_
