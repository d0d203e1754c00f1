#ifndef CONCORDAT_PRIVACY_CRYPTO_X509_NAMES_H_
#define CONCORDAT_PRIVACY_CRYPTO_X509_NAMES_H_

#include <string>
#include <vector>

#include "privacy/crypto/x509.h"

namespace concordat::crypto {

/// Names under which clients reach the holder of a certificate, beside its SPIFFE ID.
struct AlternativeNames {
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;  // IPv4 or IPv6 in text
};

/// The DNS and IP entries of the subjectAltName, in their order: what a renewed leaf keeps. Entries that are
/// neither are left out, as is an address of a wrong length.
AlternativeNames AlternativeNamesOf(const Certificate& certificate);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_X509_NAMES_H_
