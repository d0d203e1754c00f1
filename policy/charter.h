#ifndef CONCORDAT_POLICY_CHARTER_H_
#define CONCORDAT_POLICY_CHARTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "privacy/crypto/signature.h"
#include "privacy/crypto/x509.h"

namespace concordat::policy {

/// With two members the sum tells each what the other has sent.
inline constexpr size_t kFewestMembers = 3;

/// Kinds of things that cross a border. Numbers are stable: they are in receipts.
enum class ArtefactKind : uint8_t { kDelta = 1, kMetrics = 2, kEvaluation = 3, kAdapter = 4 };
std::string_view ArtefactKindName(ArtefactKind kind);
StatusOr<ArtefactKind> ParseArtefactKind(std::string_view name);

/// Why a flow may cross: adequacy decision, standard contractual clauses, consent, statute.
enum class LegalBasis : uint8_t { kAdequacy = 1, kStandardClauses = 2, kConsent = 3, kStatute = 4 };
std::string_view LegalBasisName(LegalBasis basis);
StatusOr<LegalBasis> ParseLegalBasis(std::string_view name);

struct CharterMember {
  std::string jurisdiction;
  std::string law;  // text for people: which law applies there
  std::string root_pem;
};

/// The one coordinator of a charter. Its root counts for this identity only.
struct CharterCoordinator {
  SpiffeId id;
  std::string root_pem;
  /// Public half of the key that signs its messages, DER SPKI; the key of its leaf certificate.
  Bytes spki;
  std::string address;   // host:port that workers and people dial
  std::string tls_name;  // name in its certificate that TLS clients expect
  Digest key_hash() const { return crypto::Sha256(spki); }
};

/// One permission to cross. `from` and `to` are jurisdictions, "*" for any.
struct CharterFlow {
  ArtefactKind kind{};
  std::string from;
  std::string to;
  LegalBasis basis{};
};

/// The treaty: who takes part, whose roots count, who coordinates, what may cross and why.
struct Charter {
  std::string name;
  uint32_t version = 0;
  std::vector<CharterMember> members;
  CharterCoordinator coordinator;
  uint32_t minimum_cohort = 0;
  std::vector<CharterFlow> flows;

  const CharterMember* Member(std::string_view jurisdiction) const;
  /// The first flow of the charter that covers this crossing; nullptr when it is not allowed. Within one
  /// jurisdiction nothing crosses and a flow is still needed: the coordinator there is another organisation.
  const CharterFlow* Flow(ArtefactKind kind, std::string_view from, std::string_view to) const;
};

struct CharterSignature {
  std::string jurisdiction;
  crypto::Signature signature{};
};

/// A charter file: the text, what it says, and who has signed it so far.
///
/// Grammar (docs/decisions/0004-charter-file.md): YAML. The signed text is every byte of the file before the
/// first line that is exactly `signatures:`; that line and what follows is the list of signatures. Comments
/// and spaces in the signed text are signed as well.
struct SignedCharter {
  static constexpr std::string_view kDomain = "concordat/v1/charter";
  Charter charter;
  std::string text;  // the signed bytes
  Digest hash;       // CharterHash(text): the charter's name everywhere
  std::vector<CharterSignature> signatures;
};

/// Tagged hash of the signed text.
Digest CharterHash(std::string_view signed_text);

/// Reads the signed text strictly. InvalidArgument with file, line, column for a key that is unknown, missing
/// or out of range, a root that is no CA certificate of its jurisdiction, two members with one jurisdiction
/// or one root, a coordinator of a member jurisdiction with another root, a minimum cohort under 3.
StatusOr<Charter> ParseCharter(std::string_view signed_text, std::string_view file_name);

/// Reads a charter file with its signatures, of which none is verified here.
StatusOr<SignedCharter> ParseSignedCharter(std::string_view file_text, std::string_view file_name);
StatusOr<SignedCharter> LoadSignedCharter(const std::string& path);

/// OK when every member has signed this very text with its root's key. PermissionDenied naming each
/// jurisdiction whose signature is missing or wrong, and signatures of those who are no members.
Status VerifyCharter(const SignedCharter& charter);

/// LoadSignedCharter, VerifyCharter, and the pin: PermissionDenied naming both hashes when the file is
/// another charter than the one that this node pins.
StatusOr<SignedCharter> LoadPinnedCharter(const std::string& path, const Digest& pinned);

/// Adds `jurisdiction`'s signature to a charter file (or replaces it) and returns the new file's text; the
/// signed bytes stay as they are. PermissionDenied when `root_key` is not the key of that member's root.
StatusOr<std::string> SignCharterFile(std::string_view file_text, std::string_view file_name,
                                      std::string_view jurisdiction, const crypto::SigningKey& root_key);

/// The text of a new, unsigned charter file, with comments. ParseCharter reads it back.
std::string CharterText(const Charter& charter);

/// The roots that VerifyPeerChain may use: the members', and the coordinator's for its jurisdiction. Keeps a
/// copy of what it needs. A peer found through it is not yet a member: see CheckPeer.
crypto::RootLookup CharterRoots(const Charter& charter);

/// Verifies a peer's chain against the charter: its jurisdiction's root, and more: a worker or operator must
/// be of a member jurisdiction; a coordinator must be the charter's, with the charter's key. PermissionDenied
/// with the reason. Any thread.
StatusOr<crypto::PeerIdentity> CheckPeer(const Charter& charter, std::string_view pem_chain, Instant now);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_CHARTER_H_
