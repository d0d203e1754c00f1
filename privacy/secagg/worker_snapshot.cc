#include <algorithm>
#include <type_traits>

#include "common/canonical.h"
#include "common/civil_range.h"
#include "privacy/secagg/worker_state.h"

// Snapshot of a WorkerState, version 1: the fields below in this order, in the canonical form of
// common/canonical.h. One function names the fields for both directions, so that they cannot drift apart.
// Version 2 is for a worker that has dealt with pairwise keys: after the same fields, the list of its pair
// seals.
namespace concordat::secagg {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kPairwiseVersion = 2;
constexpr size_t kMaxSpkiBytes = 256;

class Writer {
 public:
  // Room for the largest state, so that no grown-out-of copy of a secret stays on the heap.
  Writer() { out_.reserve(64 * 1024); }
  ~Writer() { Wipe(out_); }

  static constexpr bool kReads = false;
  void Raw(std::span<const uint8_t> v) {
    if (out_.size() + v.size() > out_.capacity()) {
      Bytes larger;
      larger.reserve(2 * (out_.capacity() + v.size()));
      larger.assign(out_.begin(), out_.end());
      Wipe(out_);
      out_ = std::move(larger);
    }
    out_.insert(out_.end(), v.begin(), v.end());
  }
  template <typename T>
  requires std::is_unsigned_v<T>
  void Number(T v) {
    std::array<uint8_t, sizeof(T)> bytes{};
    for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<uint8_t>(v >> (8 * i));
    Raw(bytes);
  }
  crypto::SecretText Take() const { return crypto::SecretText(out_); }

 private:
  Bytes out_;
};

class Reader {
 public:
  explicit Reader(ByteView in) : in_(in) {}
  static constexpr bool kReads = true;
  void Raw(std::span<uint8_t> v) {
    const ByteView bytes = in_.Raw(v.size());
    if (bytes.size() == v.size()) std::ranges::copy(bytes, v.begin());
  }
  template <typename T>
  requires std::is_unsigned_v<T>
  void Number(T& v) {
    std::array<uint8_t, sizeof(T)> bytes{};
    Raw(bytes);
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(T); ++i) sum |= uint64_t{bytes[i]} << (8 * i);
    v = static_cast<T>(sum);
  }
  CanonicalReader& in() { return in_; }

 private:
  CanonicalReader in_;
};

template <typename A, typename T>
void Field(A& a, T& v);

template <typename A, typename T>
void List(A& a, std::vector<T>& list, size_t max) {
  uint32_t count = static_cast<uint32_t>(list.size());
  a.Number(count);
  if constexpr (A::kReads) {
    if (count > max) {
      a.in().Fail("a list longer than allowed");
      count = 0;
    }
    list.clear();
    for (uint32_t i = 0; i < count && a.in().status().ok(); ++i) Field(a, list.emplace_back());
  } else {
    for (T& item : list) Field(a, item);
  }
}

template <typename A, typename T>
void Maybe(A& a, std::optional<T>& v) {
  uint8_t present = v.has_value() ? 1 : 0;
  a.Number(present);
  if constexpr (A::kReads) {
    if (present > 1) a.in().Fail("a flag that is neither 0 nor 1");
    if (present == 1) v.emplace();
  }
  if (v.has_value()) Field(a, *v);
}

template <typename A, typename B>
void Signedly(A& a, Signed<B>& v) {
  Field(a, v.body);
  a.Raw(v.signature);
}

template <typename A>
void Worker(A& a, SpiffeId& id) {
  if constexpr (A::kReads) {
    auto parsed = SpiffeId::Parse(a.in().Text(256));
    if (parsed.ok()) {
      id = *std::move(parsed);
    } else {
      a.in().Fail("no identity");
    }
  } else {
    const std::string text = id.ToString();
    a.Number(static_cast<uint32_t>(text.size()));
    a.Raw(AsBytes(text));
  }
}

template <typename A>
void Fields(A& a, AttemptId& v) {
  a.Raw(v.job.bytes);
  a.Number(v.round);
  a.Number(v.attempt);
}
template <typename A>
void Fields(A& a, RosterEntry& v) {
  Worker(a, v.worker);
  a.Raw(v.key_hash.bytes);
}
template <typename A>
void Fields(A& a, Offer& v) {
  Field(a, v.id);
  for (Digest* d : {&v.charter, &v.base_model, &v.adapter}) a.Raw(d->bytes);
  a.Number(v.elements);
  for (uint32_t* n :
       {&v.threshold, &v.min_survivors, &v.assumed_colluding, &v.attempts_allowed, &v.deadlines.advert_ms,
        &v.deadlines.shares_ms, &v.deadlines.input_ms, &v.deadlines.agreement_ms, &v.deadlines.unmask_ms}) {
    a.Number(*n);
  }
  List(a, v.roster, kMaxSites);
}
template <typename A>
void Fields(A& a, Advert& v) {
  Field(a, v.id);
  a.Number(v.site);
  a.Raw(v.channel_key);
  a.Raw(v.mask_key);
  for (Digest* d : {&v.seed_hash, &v.t0, &v.ledger_head}) a.Raw(d->bytes);
}
template <typename A>
void Fields(A& a, ShareCommitment& v) {
  a.Number(v.holder);
  a.Raw(v.mask_key_share.bytes);
  a.Raw(v.seed_share.bytes);
}
template <typename A>
void Fields(A& a, Shares& v) {
  Field(a, v.id);
  a.Number(v.dealer);
  a.Raw(v.t1.bytes);
  List(a, v.commitments, kMaxSites);
  List(a, v.ciphertexts, kMaxSites);
}
template <typename A>
void Fields(A& a, Complaint& v) {
  Field(a, v.id);
  a.Number(v.site);
  a.Number(v.accused);
  a.Raw(v.t1.bytes);
  auto code = static_cast<uint8_t>(v.code);
  a.Number(code);
  v.code = static_cast<Complaint::Code>(code);
}
template <typename A>
void Fields(A& a, InputHeader& v) {
  Field(a, v.id);
  a.Number(v.site);
  a.Raw(v.t2.bytes);
  a.Number(v.elements);
  a.Raw(v.sha256.bytes);
}
template <typename A>
void Fields(A& a, Agreement& v) {
  Field(a, v.id);
  a.Number(v.site);
  a.Raw(v.t2.bytes);
  List(a, v.survivors, kMaxSites);
}
template <typename A>
void Fields(A& a, OpenedShare& v) {
  a.Number(v.dealer);
  a.Raw(v.share.mutable_view());
  a.Raw(v.salt.mutable_view());
}
template <typename A>
void Fields(A& a, Unmask& v) {
  Field(a, v.id);
  a.Number(v.site);
  a.Raw(v.t2.bytes);
  List(a, v.seed_shares, kMaxSites);
  List(a, v.mask_key_shares, kMaxSites);
}
template <typename A>
void Fields(A& a, HeldShares& v) {
  for (Secret32* s : {&v.mask_key_share, &v.mask_key_salt, &v.seed_share, &v.seed_salt})
    a.Raw(s->mutable_view());
}

template <typename A>
void Peers(A& a, std::map<SiteIndex, Peer>& peers) {
  uint32_t count = static_cast<uint32_t>(peers.size());
  a.Number(count);
  if constexpr (A::kReads) {
    for (uint32_t i = 0; i < count && a.in().status().ok(); ++i) {
      auto key = crypto::VerifyKey::FromSpki(a.in().Blob(kMaxSpkiBytes));
      Advert advert;
      Field(a, advert);
      // By site, upward, as they are written: one state has one byte string.
      const bool follows = peers.empty() || advert.site > peers.rbegin()->first;
      if (!key.ok() || count > kMaxSites || !follows) {
        a.in().Fail("a peer that cannot be");
      } else {
        peers.emplace(advert.site, Peer{*std::move(key), advert});
      }
    }
  } else {
    for (auto& [site, peer] : peers) {
      a.Number(static_cast<uint32_t>(peer.key.spki().size()));
      a.Raw(peer.key.spki());
      Field(a, peer.advert);
    }
  }
}

template <typename A>
void Held(A& a, std::map<SiteIndex, HeldShares>& held) {
  uint32_t count = static_cast<uint32_t>(held.size());
  a.Number(count);
  if constexpr (A::kReads) {
    for (uint32_t i = 0; i < count && a.in().status().ok(); ++i) {
      SiteIndex dealer = 0;
      HeldShares shares;
      a.Number(dealer);
      Field(a, shares);
      const bool follows = held.empty() || dealer > held.rbegin()->first;
      if (count > kMaxSites || !follows) a.in().Fail("a dealer that cannot be");
      held.emplace(dealer, shares);
    }
  } else {
    for (auto& [dealer, shares] : held) {
      a.Number(dealer);
      Field(a, shares);
    }
  }
}

template <typename A>
void Fields(A& a, WorkerState& v) {
  auto phase = static_cast<uint8_t>(v.phase);
  a.Number(phase);
  v.phase = static_cast<WorkerPhase>(phase);
  Field(a, v.offer);
  a.Number(v.site);
  for (Digest* d : {&v.t0, &v.t1, &v.t2}) a.Raw(d->bytes);
  auto until = static_cast<uint64_t>(v.input_until.time_since_epoch().count());
  a.Number(until);
  v.input_until = Instant(Millis(static_cast<int64_t>(until)));
  for (crypto::AgreementKeyPair* pair : {&v.channel, &v.mask}) {
    a.Raw(pair->secret.mutable_view());
    a.Raw(pair->pub);
  }
  a.Raw(v.seed.mutable_view());
  Peers(a, v.peers);
  Held(a, v.held);
  List(a, v.survivors, kMaxSites);
  for (auto* seen :
       {&v.offer_seen, &v.keys_seen, &v.delivery_seen, &v.survivors_seen, &v.bundle_seen, &v.result_seen}) {
    Maybe(a, *seen);
  }
  Maybe(a, v.advert);
  Maybe(a, v.shares);
  Maybe(a, v.complaint);
  Maybe(a, v.header);
  Maybe(a, v.agreement);
  Maybe(a, v.unmask);
}

template <typename T>
struct IsSigned : std::false_type {};
template <typename B>
struct IsSigned<Signed<B>> : std::true_type {};

template <typename A, typename T>
void Field(A& a, T& v) {
  if constexpr (IsSigned<T>::value) {
    Signedly(a, v);
  } else if constexpr (std::is_same_v<T, Digest>) {
    a.Raw(v.bytes);
  } else if constexpr (std::is_unsigned_v<T>) {
    a.Number(v);
  } else if constexpr (std::is_same_v<T, ShareCiphertext> || std::is_same_v<T, PairSeal>) {
    a.Raw(v);
  } else {
    Fields(a, v);
  }
}

// A state that parses but could never have been written must not start a round.
bool IsPlausible(const WorkerState& s) {
  if (s.phase > WorkerPhase::kErased || !InCivilRange(s.input_until)) return false;
  const auto known = [&](SiteIndex site) { return site >= 1 && site <= s.offer.roster.size(); };
  const auto dealt = [&](SiteIndex site) { return s.held.contains(site); };
  const bool sets_fit =
      std::ranges::all_of(s.peers, [&](const auto& peer) { return known(peer.first); }) &&
      std::ranges::all_of(s.held, [&](const auto& held) { return s.peers.contains(held.first); }) &&
      std::ranges::all_of(s.survivors, known);
  if (!sets_fit) return false;
  switch (s.phase) {
    case WorkerPhase::kAdvertised:
      return s.advert.has_value();
    case WorkerPhase::kShared:
      return s.advert.has_value() && s.shares.has_value() && s.peers.contains(s.site) &&
             s.shares->body.ciphertexts.size() == s.peers.size();
    case WorkerPhase::kReady:
    case WorkerPhase::kInputBegun:
      return dealt(s.site);
    case WorkerPhase::kInputSent:
      return dealt(s.site) && s.header.has_value();
    case WorkerPhase::kAgreed:
      return dealt(s.site) && s.agreement.has_value() && std::ranges::all_of(s.survivors, dealt);
    case WorkerPhase::kUnmasked:
      return s.unmask.has_value();
    default:
      return true;
  }
}

}  // namespace

crypto::SecretText EncodeWorkerState(const WorkerState& state) {
  Writer writer;
  WorkerState copy = state;  // the field list is written once, for reading, and so wants a mutable state
  copy.masks.clear();
  const bool pairwise = copy.shares.has_value() && !copy.shares->body.pair_seals.empty();
  writer.Number(pairwise ? kPairwiseVersion : kVersion);
  Field(writer, copy);
  if (pairwise) List(writer, copy.shares->body.pair_seals, kMaxSites);
  return writer.Take();
}

StatusOr<WorkerState> DecodeWorkerState(ByteView snapshot) {
  Reader reader(snapshot);
  uint8_t version = 0;
  reader.Number(version);
  if (version != kVersion && version != kPairwiseVersion) {
    return DataLoss("a worker snapshot of version {}, expected {} or {}", version, kVersion,
                    kPairwiseVersion);
  }
  WorkerState state;
  Field(reader, state);
  if (version == kPairwiseVersion) {
    std::vector<PairSeal> seals;
    List(reader, seals, kMaxSites);
    if (!state.shares.has_value() || seals.empty() || seals.size() != state.shares->body.commitments.size()) {
      reader.in().Fail("pair seals without their shares");
    } else {
      state.shares->body.pair_seals = std::move(seals);
    }
  }
  if (Status status = reader.in().Finish(); !status.ok())
    return DataLoss("worker snapshot: {}", Message(status));
  if (!IsPlausible(state)) return DataLoss("a worker snapshot that no worker wrote");
  return state;
}

}  // namespace concordat::secagg
