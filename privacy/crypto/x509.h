#ifndef CONCORDAT_PRIVACY_CRYPTO_X509_H_
#define CONCORDAT_PRIVACY_CRYPTO_X509_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "privacy/crypto/signature.h"

struct x509_st;  // OpenSSL's X509

namespace concordat::crypto {

/// What a jurisdiction says in a leaf certificate.
struct CertificateProfile {
  SpiffeId id;
  /// DER SubjectPublicKeyInfo of the holder: Ed25519 or P-256.
  Bytes spki;
  /// Names under which clients reach the holder: for coordinators; usually empty for workers.
  std::vector<std::string> dns_names;
  /// IPv4 or IPv6 addresses in text, likewise.
  std::vector<std::string> ip_addresses;
  /// Whole seconds; a fraction is cut off.
  Instant not_before;
  Instant not_after;
};

/// Makes the self-signed root of a jurisdiction, X.509 v3 in PEM: CA with path length 0, keyCertSign and
/// cRLSign. Subject and issuer: CN "Concordat root", O `jurisdiction`.
/// InvalidArgument when `jurisdiction` is no name (IsName) or not_after is not after not_before.
/// \param serial source of the serial number: 16 bytes are taken
StatusOr<std::string> MakeRootCertificate(const SigningKey& root_key, std::string_view jurisdiction,
                                          Instant not_before, Instant not_after, RandomSource& serial);

/// Makes a leaf, X.509 v3 in PEM: no CA, digitalSignature, TLS client and server, one URI SAN with the SPIFFE
/// ID, then the DNS and IP names (X509-SVID standard, section 4).
/// InvalidArgument: the root certificate is not `root_key`'s, is no CA or names another jurisdiction; a
/// profile that does not fit (key, names, times). FailedPrecondition: the leaf would outlive its root.
StatusOr<std::string> IssueLeaf(const SigningKey& root_key, std::string_view root_pem,
                                const CertificateProfile& profile, RandomSource& serial);

/// A parsed certificate. Nothing here is verified: see VerifyPeerChain. Copies share it. Any thread.
class Certificate {
 public:
  /// Reads exactly one PEM certificate. InvalidArgument otherwise.
  static StatusOr<Certificate> FromPem(std::string_view pem);
  static StatusOr<Certificate> FromDer(ByteView der);

  /// The SPIFFE ID that it claims. PermissionDenied when there is no URI SAN, more than one, or one that is
  /// no identity of ours.
  StatusOr<SpiffeId> spiffe_id() const;
  /// CN of the subject; empty when there is none.
  std::string common_name() const;
  /// O of the subject: the jurisdiction in roots made here; empty when there is none.
  std::string organization() const;
  Instant not_before() const { return not_before_; }
  Instant not_after() const { return not_after_; }
  bool is_ca() const;
  bool is_self_signed() const;
  /// DER SubjectPublicKeyInfo.
  const Bytes& spki() const { return spki_; }
  /// SHA-256 of the SPKI: what rosters and charters pin.
  Digest key_hash() const { return Sha256(spki_); }
  /// SHA-256 of the whole certificate in DER.
  Digest fingerprint() const;
  std::string ToPem() const;

  x509_st* handle() const { return cert_.get(); }

 private:
  Certificate() = default;
  static StatusOr<Certificate> Wrap(std::shared_ptr<x509_st> cert);

  std::shared_ptr<x509_st> cert_;
  Bytes spki_;
  Instant not_before_;
  Instant not_after_;
};

/// Longest chain text and most certificates that are looked at: a peer sends them before it is known.
inline constexpr size_t kMaxChainBytes = 64 * 1024;
inline constexpr size_t kMaxChainCertificates = 4;

/// The certificates of `pem`, each in its own PEM text, in their order. InvalidArgument: none, too many, too
/// long, anything between them but white space, or one that does not parse.
StatusOr<std::vector<std::string>> SplitPemChain(std::string_view pem);

/// One chain, leaf first, out of what gRPC gives: `leaf_pem`, then the certificates of `further_pem` that
/// come after it. A server's AuthContext lists the client's chain without the leaf, a client's lists the
/// server's with it; both fit here.
std::string JoinPeerChain(std::string_view leaf_pem, std::string_view further_pem);

/// Who is at the other end, once its chain is verified.
struct PeerIdentity {
  SpiffeId id;
  Bytes spki;
  Digest key_hash;
  Instant not_after;
};

/// Gives the one root that the charter pins for a jurisdiction, in PEM; a status (NotFound, PermissionDenied)
/// when the charter knows none.
using RootLookup = std::function<StatusOr<std::string>(const std::string& jurisdiction)>;

/// Verifies a peer's chain, leaf first, against the root of the jurisdiction that the leaf claims and no
/// other: a certificate that chains to somebody else's root counts for nothing. RFC 5280, section 6, in
/// OpenSSL's strict mode; the leaf must allow both TLS client and server use, as every leaf here does.
/// PermissionDenied with the reason: expired, not yet valid, another jurisdiction's or a false root,
/// self-signed, no or several or a malformed SPIFFE ID, a CA used as leaf, wrong use, neither Ed25519 nor
/// P-256. InvalidArgument when the root that `root_pem_for` gives is no certificate: that is our side's
/// mistake. Does not look at revocation (a key that must go leaves the roster or the charter) nor at DNS
/// names, and does not show that the peer holds the key: TLS or a signature must. Any thread.
StatusOr<PeerIdentity> VerifyPeerChain(std::string_view pem_chain, const RootLookup& root_pem_for,
                                       Instant now);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_X509_H_
