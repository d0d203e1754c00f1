#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_FORGED_CERTIFICATE_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_FORGED_CERTIFICATE_H_

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>
#include <utility>
#include <vector>

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/x509.h"

namespace concordat::crypto {

/// A certificate as somebody else's CA, or a liar, might make it: what our own issuing calls refuse to write.
struct ForgedCertificate {
  std::string subject = "forged";
  /// PEM of the issuer; empty: self-signed.
  std::string issuer_pem;
  Instant not_before, not_after;
  /// Extension and its value in OpenSSL's own notation, in order.
  std::vector<std::pair<int, std::string>> extensions;

  /// A leaf that is right in everything, with this URI.
  static ForgedCertificate Leaf(std::string issuer_pem, std::string uri, Instant not_before,
                                Instant not_after) {
    return {"leaf",
            std::move(issuer_pem),
            not_before,
            not_after,
            {{NID_basic_constraints, "critical,CA:FALSE"},
             {NID_key_usage, "critical,digitalSignature"},
             {NID_ext_key_usage, "clientAuth,serverAuth"},
             {NID_subject_key_identifier, "hash"},
             {NID_authority_key_identifier, "keyid"},
             {NID_subject_alt_name, "URI:" + uri}}};
  }

  /// Puts `value` in place of the extension `nid`; an empty value leaves it out.
  ForgedCertificate With(int nid, const std::string& value) const {
    ForgedCertificate other = *this;
    std::erase_if(other.extensions, [nid](const auto& e) { return e.first == nid; });
    if (!value.empty()) other.extensions.emplace_back(nid, value);
    return other;
  }

  /// PEM, for the holder of `holder`, signed by `signer`.
  std::string Make(const SigningKey& signer, EVP_PKEY* holder) const {
    const OpenSslPtr<X509, X509_free> cert(X509_new());
    X509_set_version(cert.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 7);
    ASN1_TIME_set(X509_getm_notBefore(cert.get()), Seconds(not_before));
    ASN1_TIME_set(X509_getm_notAfter(cert.get()), Seconds(not_after));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
    X509_set_pubkey(cert.get(), holder);
    X509* issuer = cert.get();
    const BioPtr bio = ReadBio(AsBytes(issuer_pem));
    const OpenSslPtr<X509, X509_free> other(
        issuer_pem.empty() ? nullptr : PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (other != nullptr) issuer = other.get();
    X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer));
    for (const auto& [nid, value] : extensions) {
      X509V3_CTX ctx;
      X509V3_set_ctx_nodb(&ctx);
      X509V3_set_ctx(&ctx, issuer, cert.get(), nullptr, nullptr, 0);
      const OpenSslPtr<X509_EXTENSION, X509_EXTENSION_free> extension(
          X509V3_EXT_conf_nid(nullptr, &ctx, nid, value.c_str()));
      Require(extension != nullptr, value.c_str());
      X509_add_ext(cert.get(), extension.get(), -1);
    }
    Require(X509_sign(cert.get(), signer.handle(), nullptr) > 0, "X509_sign");
    const BioPtr out = WriteBio();
    PEM_write_bio_X509(out.get(), cert.get());
    return ToStringBytes(BioContent(out.get()));
  }

 private:
  static time_t Seconds(Instant t) {
    return static_cast<time_t>(std::chrono::floor<std::chrono::seconds>(t).time_since_epoch().count());
  }
};

}  // namespace concordat::crypto

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_FORGED_CERTIFICATE_H_
