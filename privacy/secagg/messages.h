#ifndef CONCORDAT_PRIVACY_SECAGG_MESSAGES_H_
#define CONCORDAT_PRIVACY_SECAGG_MESSAGES_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/canonical.h"
#include "common/ids.h"
#include "common/secret.h"
#include "common/shared_value.h"
#include "privacy/crypto/key_agreement.h"
#include "privacy/crypto/signature.h"

// The messages of one attempt, steps 0 to 9, as checked domain structs (docs/SECURE_AGGREGATION.md).
//
// Every struct has one canonical byte form (`Canonical`), which is what signatures and transcript hashes
// cover: bodies, never signatures. A signature is over the tagged canonical body with the domain that the
// struct names in kDomain. Sites are numbered 1..n in roster order. Lists are sorted by site without repeats;
// a receiver refuses anything else.
namespace concordat::secagg {

using crypto::AgreementPublic;
using crypto::Signature;

/// A body with its sender's signature under T::kDomain.
template <typename T>
struct Signed {
  T body;
  Signature signature{};
};

/// One site of an attempt. `key_hash` is SHA-256 of its leaf certificate's public key (DER SPKI).
struct RosterEntry {
  SpiffeId worker;
  Digest key_hash;
  bool operator==(const RosterEntry&) const = default;
};

/// How long each step may take, counted from the coordinator's message that opens it.
struct Deadlines {
  uint32_t advert_ms = 0;
  uint32_t shares_ms = 0;
  uint32_t input_ms = 0;  // local training and upload
  uint32_t agreement_ms = 0;
  uint32_t unmask_ms = 0;
  bool operator==(const Deadlines&) const = default;
};

/// Step 0, coordinator to worker. Encoding, privacy, metrics and local steps are in the job file, whose hash
/// is `id.job`; the job and its submitter's signature travel beside the offer once per connection.
struct Offer {
  static constexpr std::string_view kDomain = "concordat/v1/offer";
  AttemptId id;
  Digest charter;
  Digest base_model;
  Digest adapter;                  // hash of the adapter this round starts from
  uint64_t elements = 0;           // length of the masked vector: delta, then metrics
  uint32_t threshold = 0;          // t
  uint32_t min_survivors = 0;      // m
  uint32_t assumed_colluding = 0;  // nC
  uint32_t attempts_allowed = 0;
  Deadlines deadlines;
  std::vector<RosterEntry> roster;  // site i is roster[i - 1]
  bool operator==(const Offer&) const = default;
};

/// Step 1, worker to coordinator.
struct Advert {
  static constexpr std::string_view kDomain = "concordat/v1/advert";
  AttemptId id;
  SiteIndex site = 0;
  AgreementPublic channel_key{};  // carries the encrypted shares
  AgreementPublic mask_key{};     // gives the pairwise masks
  Digest seed_hash;               // SHA-256 of the self-mask seed b_i
  Digest t0;
  Digest ledger_head;
};

/// Step 2, coordinator to every worker: U1. `chains` are PEM, leaf first, in the order of `adverts`.
struct Keys {
  static constexpr std::string_view kDomain = "concordat/v1/keys";
  AttemptId id;
  std::vector<Signed<Advert>> adverts;
  std::vector<std::string> chains;
};

/// What a dealer gives one holder: AES-256-GCM over share_of_mask_key ‖ salt ‖ share_of_seed ‖ salt, 32 bytes
/// each.
inline constexpr size_t kSharePlainBytes = 128;
inline constexpr size_t kShareCipherBytes = kSharePlainBytes + 16;
using ShareCiphertext = std::array<uint8_t, kShareCipherBytes>;

/// With pairwise keys, what a dealer leaves about the key that it has with one holder (pairwise.h): a tag of
/// 32 bytes, by which the holder sees that both have the same key, and the pair's part of the mask key,
/// sealed (32 bytes and a tag of GCM).
inline constexpr size_t kPairTagBytes = 32;
inline constexpr size_t kPairSealBytes = kPairTagBytes + 32 + 16;
using PairSeal = std::array<uint8_t, kPairSealBytes>;

/// Commitments of one dealer to the two shares that one holder has.
struct ShareCommitment {
  SiteIndex holder = 0;
  Digest mask_key_share;
  Digest seed_share;
  bool operator==(const ShareCommitment&) const = default;
};

/// Step 3, worker to coordinator. One entry for each site of U1, the dealer included (it keeps a share of its
/// own secrets; for itself too the ciphertext is made, under a key agreed with itself, so that every row
/// looks alike).
struct Shares {
  static constexpr std::string_view kDomain = "concordat/v1/shares";
  AttemptId id;
  SiteIndex dealer = 0;
  Digest t1;
  std::vector<ShareCommitment>
      commitments;  // sorted by holder; the signature covers these, not the ciphertexts
  std::vector<ShareCiphertext> ciphertexts;  // in the order of `commitments`
  std::vector<PairSeal> pair_seals = {};     // likewise; empty without pairwise keys; outside the signature
};

/// Step 4, coordinator to worker `to`: U2, each dealer's signed commitments and the ciphertext meant for
/// `to`.
struct Delivery {
  static constexpr std::string_view kDomain = "concordat/v1/delivery";
  struct Row {
    SiteIndex dealer = 0;
    SharedValue<std::vector<ShareCommitment>> commitments;  // the same in every site's delivery
    Signature signature{};                                  // the dealer's, over its Shares body
    ShareCiphertext ciphertext{};                           // for `to`
  };
  AttemptId id;
  SiteIndex to = 0;
  Digest t1;
  std::vector<Row> rows;               // sorted by dealer
  std::vector<Digest> pair_tags = {};  // of each row's pair seal for `to`; empty without pairwise keys
};

/// Instead of going on after step 4: ends the attempt before anything left.
struct Complaint {
  static constexpr std::string_view kDomain = "concordat/v1/complaint";
  enum class Code : uint8_t {
    kCannotDecrypt = 1,
    kCommitmentMismatch = 2,
    kBadSignature = 3,
    kOtherPairwiseKey = 4,  // the two sites do not hold the same pairwise key
  };
  AttemptId id;
  SiteIndex site = 0;
  SiteIndex accused = 0;
  Digest t1;
  Code code{};
};

/// Step 5, worker to coordinator, after the last chunk of y_i.
struct InputHeader {
  static constexpr std::string_view kDomain = "concordat/v1/input";
  AttemptId id;
  SiteIndex site = 0;
  Digest t2;
  uint64_t elements = 0;
  Digest sha256;  // of y_i, little-endian words of the job's number of bits
};

/// Step 6, coordinator to worker: U3 with the signed headers, sorted by site.
struct Survivors {
  static constexpr std::string_view kDomain = "concordat/v1/survivors";
  AttemptId id;
  Digest t2;
  std::vector<Signed<InputHeader>> headers;
};

/// Step 7, worker to coordinator: this worker has seen exactly this U3.
struct Agreement {
  static constexpr std::string_view kDomain = "concordat/v1/agreement";
  AttemptId id;
  SiteIndex site = 0;
  Digest t2;
  std::vector<SiteIndex> survivors;
};

/// Step 7, coordinator to worker: at least t signatures over the same U3.
struct AgreementBundle {
  static constexpr std::string_view kDomain = "concordat/v1/agreement-bundle";
  AttemptId id;
  Digest t2;
  std::vector<SiteIndex> survivors;
  std::vector<std::pair<SiteIndex, Signature>> signatures;  // sorted by site
};

/// One opened share: what `dealer` gave to the sender.
struct OpenedShare {
  SiteIndex dealer = 0;
  Secret32 share;
  Secret32 salt;
};

/// Step 8, worker to coordinator: for each j in U3 the share of b_j, for each j in U2 \ U3 the share of j's
/// mask key. Never both for one j.
struct Unmask {
  static constexpr std::string_view kDomain = "concordat/v1/unmask";
  AttemptId id;
  SiteIndex site = 0;
  Digest t2;
  std::vector<OpenedShare> seed_shares;
  std::vector<OpenedShare> mask_key_shares;
};

/// Step 9, coordinator to every worker.
struct Result {
  static constexpr std::string_view kDomain = "concordat/v1/result";
  AttemptId id;
  Digest t2;
  std::vector<SiteIndex> survivors;
  Digest sum_sha256;   // of the sum, little-endian words of the job's number of bits
  Digest new_adapter;  // the next offer's `adapter`
};

Bytes Canonical(const Offer&);
Bytes Canonical(const Advert&);
Bytes Canonical(const Keys&);
Bytes Canonical(const Shares&);  // without ciphertexts and pair seals
Bytes Canonical(const Delivery&);
Bytes Canonical(const Complaint&);
Bytes Canonical(const InputHeader&);
Bytes Canonical(const Survivors&);
Bytes Canonical(const Agreement&);
Bytes Canonical(const AgreementBundle&);
Bytes Canonical(const Unmask&);
Bytes Canonical(const Result&);

/// Signs `body` under its domain.
template <typename T>
Signed<T> Sign(const crypto::SigningKey& key, T body) {
  const Signature signature = key.Sign(T::kDomain, Canonical(body));
  return {std::move(body), signature};
}

/// PermissionDenied unless `message` carries `key`'s signature.
template <typename T>
Status CheckSignature(const crypto::VerifyKey& key, const Signed<T>& message) {
  return key.Verify(T::kDomain, Canonical(message.body), message.signature);
}

/// T0 = H(offer). T1 = H(T0, advert bodies sorted by site). T2 = H(T1, U2, commitments). Docs: "Transcript".
Digest TranscriptT0(const Offer& offer);
Digest TranscriptT1(const Digest& t0, const std::vector<Signed<Advert>>& sorted_adverts);
Digest TranscriptT2(const Digest& t1,
                    const std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>>& sorted_dealers);

/// t = ⌊2n/3⌋ + 1.
constexpr uint32_t ThresholdFor(uint32_t sites) { return 2 * sites / 3 + 1; }

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_MESSAGES_H_
