#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <initializer_list>

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/x509.h"

namespace concordat::crypto {
namespace {

using X509Ptr = OpenSslPtr<X509, X509_free>;
using ExtensionPtr = OpenSslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using AsnTimePtr = OpenSslPtr<ASN1_TIME, ASN1_TIME_free>;
using BigNumberPtr = OpenSslPtr<BIGNUM, BN_free>;
using NamesPtr = OpenSslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

constexpr size_t kSerialBytes = 16;
constexpr size_t kMaxNames = 32;

// RFC 5280 has four digits for the year, and its "no expiry" is in 9999.
Status CheckTimes(Instant not_before, Instant not_after) {
  if (not_before >= not_after) {
    return InvalidArgument("certificate: not_after {} must be after not_before {}", FormatInstant(not_after),
                           FormatInstant(not_before));
  }
  const Instant first = std::chrono::sys_days{std::chrono::year{1970} / 1 / 1};
  const Instant last = std::chrono::sys_days{std::chrono::year{9999} / 12 / 31};
  if (not_before < first || not_after > last) {
    return InvalidArgument("certificate: times must lie in the years 1970 to 9999");
  }
  return OkStatus();
}

AsnTimePtr ToAsnTime(Instant instant) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(instant).time_since_epoch().count();
  AsnTimePtr time(ASN1_TIME_set(nullptr, static_cast<std::time_t>(seconds)));
  Require(time != nullptr, "ASN1_TIME_set");
  return time;
}

void SetSerial(X509* cert, RandomSource& random) {
  std::array<uint8_t, kSerialBytes> bytes{};
  random.Fill(bytes);
  // Positive and never zero (RFC 5280, section 4.1.2.2): the top bit clear, the next one set.
  bytes[0] = static_cast<uint8_t>((bytes[0] & 0x7f) | 0x40);
  const BigNumberPtr number(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
  Require(number != nullptr && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(cert)) != nullptr,
          "certificate serial number");
}

void AddNameEntry(X509_NAME* name, const char* field, std::string_view value) {
  Require(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                     reinterpret_cast<const unsigned char*>(value.data()),
                                     static_cast<int>(value.size()), -1, 0) == 1,
          "certificate name");
}

void AddExtension(X509* cert, X509* issuer, int nid, const char* value) {
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &ctx, nid, value));
  Require(extension != nullptr && X509_add_ext(cert, extension.get(), -1) == 1, value);
}

// What roots and leaves share: version, serial number, times, key.
X509Ptr NewCertificate(EVP_PKEY* key, Instant not_before, Instant not_after, RandomSource& serial) {
  X509Ptr cert(X509_new());
  Require(cert != nullptr, "X509_new");
  Require(X509_set_version(cert.get(), X509_VERSION_3) == 1, "X509_set_version");
  SetSerial(cert.get(), serial);
  Require(X509_set1_notBefore(cert.get(), ToAsnTime(not_before).get()) == 1, "X509_set1_notBefore");
  Require(X509_set1_notAfter(cert.get(), ToAsnTime(not_after).get()) == 1, "X509_set1_notAfter");
  Require(X509_set_pubkey(cert.get(), key) == 1, "X509_set_pubkey");
  return cert;
}

std::string SignAndWrite(X509* cert, const SigningKey& key) {
  // Ed25519 hashes by itself: no digest is named.
  const EVP_MD* digest = key.profile() == SignatureProfile::kEd25519 ? nullptr : EVP_sha256();
  Require(X509_sign(cert, key.handle(), digest) > 0, "X509_sign");
  const BioPtr bio = WriteBio();
  Require(PEM_write_bio_X509(bio.get(), cert) == 1, "PEM_write_bio_X509");
  return ToStringBytes(BioContent(bio.get()));
}

void PushName(GENERAL_NAMES* names, int type, ASN1_STRING* value) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  Require(name != nullptr && value != nullptr, "GENERAL_NAME_new");
  GENERAL_NAME_set0_value(name, type, value);
  Require(sk_GENERAL_NAME_push(names, name) > 0, "subjectAltName");
}

void PushText(GENERAL_NAMES* names, int type, std::string_view text) {
  ASN1_IA5STRING* value = ASN1_IA5STRING_new();
  Require(value != nullptr && ASN1_STRING_set(value, text.data(), static_cast<int>(text.size())) == 1,
          "subjectAltName");
  PushName(names, type, value);
}

// A DNS name in lower case (RFC 1123, section 2.1), no wildcard.
bool IsDnsName(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    if (!IsName(label)) return false;
    name.remove_prefix(label.size());
    if (name == ".") return false;
    if (!name.empty()) name.remove_prefix(1);
  }
  return true;
}

// Built as objects, not out of OpenSSL's "URI:...,DNS:..." language, in which a comma in a name adds names.
Status AddAlternativeNames(X509* cert, const CertificateProfile& profile) {
  const NamesPtr names(GENERAL_NAMES_new());
  Require(names != nullptr, "GENERAL_NAMES_new");
  PushText(names.get(), GEN_URI, profile.id.ToString());
  for (const std::string& dns : profile.dns_names) {
    if (!IsDnsName(dns)) {
      return InvalidArgument("certificate: expected DNS names of a-z 0-9 . -, got one of {} characters",
                             dns.size());
    }
    PushText(names.get(), GEN_DNS, dns);
  }
  for (const std::string& ip : profile.ip_addresses) {
    ASN1_OCTET_STRING* address = a2i_IPADDRESS(ip.c_str());
    if (address == nullptr) {
      TakeOpenSslError();
      return InvalidArgument("certificate: expected an IPv4 or IPv6 address, got text of {} characters",
                             ip.size());
    }
    PushName(names.get(), GEN_IPADD, address);
  }
  Require(X509_add1_ext_i2d(cert, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1,
          "subjectAltName");
  return OkStatus();
}

Status CheckIssuer(const SigningKey& root_key, const Certificate& root, const CertificateProfile& profile) {
  const std::string& jurisdiction = profile.id.jurisdiction();
  if (!IsName(jurisdiction)) return InvalidArgument("certificate: the profile has no SPIFFE ID");
  if (root.spki() != root_key.PublicSpki()) {
    return InvalidArgument("certificate: the root certificate of {} is not of this root key", jurisdiction);
  }
  if (X509_get0_subject_key_id(root.handle()) == nullptr) {
    return InvalidArgument("certificate: the root certificate of {} has no subject key identifier",
                           jurisdiction);
  }
  if (!root.is_ca()) return InvalidArgument("certificate: the root certificate of {} is no CA", jurisdiction);
  if (root.organization() != jurisdiction) {
    return InvalidArgument("certificate: the root is {}'s, the leaf would be {}'s", root.organization(),
                           jurisdiction);
  }
  if (profile.dns_names.size() + profile.ip_addresses.size() > kMaxNames) {
    return InvalidArgument("certificate: expected at most {} DNS names and addresses", kMaxNames);
  }
  RETURN_IF_ERROR(CheckTimes(profile.not_before, profile.not_after));
  if (profile.not_after > root.not_after() || profile.not_before < root.not_before()) {
    return FailedPrecondition("certificate: {} to {} is not within the life of its root, {} to {}",
                              FormatInstant(profile.not_before), FormatInstant(profile.not_after),
                              FormatInstant(root.not_before()), FormatInstant(root.not_after()));
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::string> MakeRootCertificate(const SigningKey& root_key, std::string_view jurisdiction,
                                          Instant not_before, Instant not_after, RandomSource& serial) {
  if (!IsName(jurisdiction)) {
    return InvalidArgument(
        "jurisdiction: expected 1 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit");
  }
  RETURN_IF_ERROR(CheckTimes(not_before, not_after));
  const X509Ptr cert = NewCertificate(root_key.handle(), not_before, not_after, serial);
  X509_NAME* const subject = X509_get_subject_name(cert.get());
  AddNameEntry(subject, "O", jurisdiction);
  AddNameEntry(subject, "CN", "Concordat root");
  Require(X509_set_issuer_name(cert.get(), subject) == 1, "X509_set_issuer_name");
  AddExtension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  AddExtension(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  AddExtension(cert.get(), cert.get(), NID_subject_key_identifier, "hash");
  return SignAndWrite(cert.get(), root_key);
}

StatusOr<std::string> IssueLeaf(const SigningKey& root_key, std::string_view root_pem,
                                const CertificateProfile& profile, RandomSource& serial) {
  ASSIGN_OR_RETURN(const Certificate root, Certificate::FromPem(root_pem));
  RETURN_IF_ERROR(CheckIssuer(root_key, root, profile));
  ASSIGN_OR_RETURN(const VerifyKey holder, VerifyKey::FromSpki(profile.spki));
  const X509Ptr cert = NewCertificate(holder.handle(), profile.not_before, profile.not_after, serial);
  X509_NAME* const subject = X509_get_subject_name(cert.get());
  AddNameEntry(subject, "O", profile.id.jurisdiction());
  AddNameEntry(subject, "CN", profile.id.name());
  Require(X509_set_issuer_name(cert.get(), X509_get_subject_name(root.handle())) == 1,
          "X509_set_issuer_name");
  AddExtension(cert.get(), root.handle(), NID_basic_constraints, "critical,CA:FALSE");
  AddExtension(cert.get(), root.handle(), NID_key_usage, "critical,digitalSignature");
  AddExtension(cert.get(), root.handle(), NID_ext_key_usage, "clientAuth,serverAuth");
  AddExtension(cert.get(), root.handle(), NID_subject_key_identifier, "hash");
  AddExtension(cert.get(), root.handle(), NID_authority_key_identifier, "keyid:always");
  RETURN_IF_ERROR(AddAlternativeNames(cert.get(), profile));
  return SignAndWrite(cert.get(), root_key);
}

}  // namespace concordat::crypto
