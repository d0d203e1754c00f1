#include "privacy/crypto/x509.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

using NamesPtr = OpenSslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----";
constexpr std::string_view kEnd = "-----END CERTIFICATE-----";
constexpr std::string_view kSpace = " \t\r\n";

StatusOr<Instant> FromAsnTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) {
    TakeOpenSslError();
    return InvalidArgument("certificate: a time cannot be read");
  }
  return Instant(std::chrono::seconds(timegm(&parts)));
}

std::string SubjectEntry(const X509* cert, int nid) {
  const X509_NAME* name = X509_get_subject_name(cert);
  const int at = X509_NAME_get_index_by_NID(name, nid, -1);
  if (at < 0) return "";
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  if (size < 0) {
    TakeOpenSslError();
    return "";
  }
  std::string value(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  return value;
}

}  // namespace

StatusOr<Certificate> Certificate::Wrap(std::shared_ptr<x509_st> cert) {
  if (cert == nullptr) {
    return InvalidArgument("certificate: expected one X.509 certificate ({})", TakeOpenSslError());
  }
  Certificate result;
  ASSIGN_OR_RETURN(result.not_before_, FromAsnTime(X509_get0_notBefore(cert.get())));
  ASSIGN_OR_RETURN(result.not_after_, FromAsnTime(X509_get0_notAfter(cert.get())));
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert.get()), &der);
  if (size <= 0) return InvalidArgument("certificate: no public key ({})", TakeOpenSslError());
  result.spki_.assign(der, der + size);
  OPENSSL_free(der);
  result.cert_ = std::move(cert);
  return result;
}

StatusOr<Certificate> Certificate::FromPem(std::string_view pem) {
  ASSIGN_OR_RETURN(const std::vector<std::string> chain, SplitPemChain(pem));
  if (chain.size() != 1) return InvalidArgument("certificate: expected one, got {}", chain.size());
  const BioPtr bio = ReadBio(AsBytes(chain[0]));
  return Wrap(std::shared_ptr<X509>(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free));
}

StatusOr<Certificate> Certificate::FromDer(ByteView der) {
  if (der.size() > kMaxChainBytes) {
    return InvalidArgument("certificate: expected at most {} bytes, got {}", kMaxChainBytes, der.size());
  }
  const unsigned char* at = der.data();
  std::shared_ptr<X509> cert(d2i_X509(nullptr, &at, static_cast<long>(der.size())), X509_free);
  if (cert != nullptr && at != der.data() + der.size()) {
    return InvalidArgument("certificate: {} bytes follow it", der.data() + der.size() - at);
  }
  return Wrap(std::move(cert));
}

StatusOr<SpiffeId> Certificate::spiffe_id() const {
  int critical = 0;
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert_.get(), NID_subject_alt_name, &critical, nullptr)));
  if (names == nullptr) {
    TakeOpenSslError();
    // -1: there is no such extension. -2: several, or it does not parse.
    if (critical == -1) return PermissionDenied("certificate: no SPIFFE ID, it has no subjectAltName");
    return PermissionDenied("certificate: its subjectAltName cannot be read, or there are several");
  }
  std::string uri;
  int uris = 0;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    ++uris;
    const ASN1_IA5STRING* text = name->d.uniformResourceIdentifier;
    uri.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
               static_cast<size_t>(ASN1_STRING_length(text)));
  }
  if (uris == 0) return PermissionDenied("certificate: no SPIFFE ID, its subjectAltName has no URI");
  if (uris > 1)
    return PermissionDenied("certificate: expected one SPIFFE ID, its subjectAltName has {} URIs", uris);
  auto id = SpiffeId::Parse(uri);
  if (!id.ok()) return PermissionDenied("certificate: its URI is no identity here: {}", Message(id.status()));
  return id;
}

std::string Certificate::common_name() const { return SubjectEntry(cert_.get(), NID_commonName); }
std::string Certificate::organization() const { return SubjectEntry(cert_.get(), NID_organizationName); }
bool Certificate::is_ca() const { return X509_check_ca(cert_.get()) != 0; }
bool Certificate::is_self_signed() const { return X509_self_signed(cert_.get(), 0) == 1; }

Digest Certificate::fingerprint() const {
  unsigned char* der = nullptr;
  const int size = i2d_X509(cert_.get(), &der);
  Require(size > 0, "i2d_X509");
  const Digest digest = Sha256(ByteView(der, static_cast<size_t>(size)));
  OPENSSL_free(der);
  return digest;
}

std::string Certificate::ToPem() const {
  const BioPtr bio = WriteBio();
  Require(PEM_write_bio_X509(bio.get(), cert_.get()) == 1, "PEM_write_bio_X509");
  return ToStringBytes(BioContent(bio.get()));
}

StatusOr<std::vector<std::string>> SplitPemChain(std::string_view pem) {
  if (pem.size() > kMaxChainBytes) {
    return InvalidArgument("certificates: expected at most {} bytes, got {}", kMaxChainBytes, pem.size());
  }
  std::vector<std::string> chain;
  for (;;) {
    const size_t text = pem.find_first_not_of(kSpace);
    if (text == std::string_view::npos) break;
    pem.remove_prefix(text);
    if (!pem.starts_with(kBegin)) {
      return InvalidArgument("certificates: expected \"{}\" after {} certificates", kBegin, chain.size());
    }
    const size_t end = pem.find(kEnd);
    if (end == std::string_view::npos) {
      return InvalidArgument("certificates: certificate {} has no end", chain.size() + 1);
    }
    if (chain.size() == kMaxChainCertificates) {
      return InvalidArgument("certificates: expected at most {}", kMaxChainCertificates);
    }
    chain.emplace_back(std::string(pem.substr(0, end + kEnd.size())) + "\n");
    pem.remove_prefix(end + kEnd.size());
  }
  if (chain.empty()) return InvalidArgument("certificates: expected a PEM certificate, got none");
  for (size_t i = 0; i < chain.size(); ++i) {
    const BioPtr bio = ReadBio(AsBytes(chain[i]));
    const std::unique_ptr<X509, OpenSslDeleter<X509, X509_free>> cert(
        PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (cert == nullptr) {
      return InvalidArgument("certificates: certificate {} cannot be read ({})", i + 1, TakeOpenSslError());
    }
  }
  return chain;
}

std::string JoinPeerChain(std::string_view leaf_pem, std::string_view further_pem) {
  const auto trim = [](std::string_view text) {
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? std::string_view()
                                           : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
  };
  leaf_pem = trim(leaf_pem);
  further_pem = trim(further_pem);
  // No leaf, nobody there: what else was sent must not be taken for the leaf.
  if (leaf_pem.empty()) return "";
  if (further_pem.starts_with(leaf_pem)) return std::string(further_pem) + "\n";
  return std::string(leaf_pem) + "\n" + std::string(further_pem);
}

}  // namespace concordat::crypto
