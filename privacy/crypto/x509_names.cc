#include "privacy/crypto/x509_names.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {

AlternativeNames AlternativeNamesOf(const Certificate& certificate) {
  AlternativeNames out;
  const OpenSslPtr<GENERAL_NAMES, GENERAL_NAMES_free> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.handle(), NID_subject_alt_name, nullptr, nullptr)));
  if (names == nullptr) return out;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type));
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    const auto* data = ASN1_STRING_get0_data(value);
    const int size = ASN1_STRING_length(value);
    if (type == GEN_DNS) {
      out.dns_names.emplace_back(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    } else if (size == 4 || size == 16) {
      char text[INET6_ADDRSTRLEN] = {};
      if (inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text, sizeof text) != nullptr) {
        out.ip_addresses.emplace_back(text);
      }
    }
  }
  return out;
}

}  // namespace concordat::crypto
