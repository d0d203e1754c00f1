#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/x509.h"

namespace concordat::crypto {
namespace {

using StorePtr = OpenSslPtr<X509_STORE, X509_STORE_free>;
using StoreCtxPtr = OpenSslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;
// Frees the stack only: the certificates belong to Certificate.
void FreeStack(STACK_OF(X509) * stack) { sk_X509_free(stack); }
using StackPtr = OpenSslPtr<STACK_OF(X509), FreeStack>;

// 112 bits: also keeps RSA below 2048 bits and SHA-1 out of the chains of CAs that we did not make.
constexpr int kSecurityLevel = 2;

// What X509_verify_cert found, in the words of an operator who must find the wrong certificate.
Status Explain(int error, const SpiffeId& id, const Certificate& leaf, Instant now) {
  const std::string& jurisdiction = id.jurisdiction();
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      if (leaf.not_after() <= now) {
        return PermissionDenied("certificate of {}: expired at {}", id.Brief(),
                                FormatInstant(leaf.not_after()));
      }
      return PermissionDenied("certificate of {}: its issuer's certificate has expired", id.Brief());
    case X509_V_ERR_CERT_NOT_YET_VALID:
      if (leaf.not_before() > now) {
        return PermissionDenied("certificate of {}: not yet valid, only from {}", id.Brief(),
                                FormatInstant(leaf.not_before()));
      }
      return PermissionDenied("certificate of {}: its issuer's certificate is not yet valid", id.Brief());
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return PermissionDenied("certificate of {}: self-signed, not signed by the root of {}", id.Brief(),
                              jurisdiction);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return PermissionDenied(
          "certificate of {}: claims jurisdiction {} but does not chain to the root of {} ({})", id.Brief(),
          jurisdiction, jurisdiction, X509_verify_cert_error_string(error));
    case X509_V_ERR_INVALID_PURPOSE:
      return PermissionDenied(
          "certificate of {}: its extended key usage does not allow TLS client and server", id.Brief());
    default:
      return PermissionDenied("certificate of {}: {}", id.Brief(), X509_verify_cert_error_string(error));
  }
}

// What every leaf must have besides its chain.
Status CheckLeaf(const Certificate& leaf, const SpiffeId& id) {
  if (leaf.is_ca()) return PermissionDenied("certificate of {}: a CA certificate used as leaf", id.Brief());
  X509* const cert = leaf.handle();
  if ((X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) == 0) {
    return PermissionDenied("certificate of {}: no extended key usage", id.Brief());
  }
  // Without the extension X509_get_key_usage allows everything.
  if ((X509_get_extension_flags(cert) & EXFLAG_KUSAGE) == 0 ||
      (X509_get_key_usage(cert) & KU_DIGITAL_SIGNATURE) == 0) {
    return PermissionDenied("certificate of {}: its key usage does not allow signatures", id.Brief());
  }
  const auto key = VerifyKey::FromSpki(leaf.spki());
  if (!key.ok()) return PermissionDenied("certificate of {}: {}", id.Brief(), Message(key.status()));
  return OkStatus();
}

Status CheckPurpose(int purpose, const std::vector<Certificate>& chain, const Certificate& root,
                    const SpiffeId& id, Instant now) {
  const StorePtr store(X509_STORE_new());
  const StoreCtxPtr ctx(X509_STORE_CTX_new());
  const StackPtr untrusted(sk_X509_new_null());
  Require(store != nullptr && ctx != nullptr && untrusted != nullptr, "X509_STORE_CTX_new");
  Require(X509_STORE_add_cert(store.get(), root.handle()) == 1, "X509_STORE_add_cert");
  for (size_t i = 1; i < chain.size(); ++i) {
    Require(sk_X509_push(untrusted.get(), chain[i].handle()) > 0, "sk_X509_push");
  }
  Require(X509_STORE_CTX_init(ctx.get(), store.get(), chain[0].handle(), untrusted.get()) == 1,
          "X509_STORE_CTX_init");
  X509_VERIFY_PARAM* const param = X509_STORE_CTX_get0_param(ctx.get());
  Require(X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE) == 1 &&
              X509_VERIFY_PARAM_set_purpose(param, purpose) == 1,
          "X509_VERIFY_PARAM");
  X509_VERIFY_PARAM_set_auth_level(param, kSecurityLevel);
  X509_VERIFY_PARAM_set_depth(param, static_cast<int>(kMaxChainCertificates));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
  X509_VERIFY_PARAM_set_time(param, static_cast<std::time_t>(seconds));
  const bool good = X509_verify_cert(ctx.get()) == 1;
  const int error = X509_STORE_CTX_get_error(ctx.get());
  TakeOpenSslError();
  if (good && error == X509_V_OK) return OkStatus();
  return Explain(error, id, chain[0], now);
}

StatusOr<std::vector<Certificate>> ParseChain(std::string_view pem_chain) {
  auto texts = SplitPemChain(pem_chain);
  if (!texts.ok()) return PermissionDenied("{}", Message(texts.status()));
  std::vector<Certificate> chain;
  for (const std::string& text : *texts) {
    auto cert = Certificate::FromPem(text);
    if (!cert.ok()) return PermissionDenied("{}", Message(cert.status()));
    chain.push_back(*std::move(cert));
  }
  return chain;
}

}  // namespace

StatusOr<PeerIdentity> VerifyPeerChain(std::string_view pem_chain, const RootLookup& root_pem_for,
                                       Instant now) {
  ASSIGN_OR_RETURN(const std::vector<Certificate> chain, ParseChain(pem_chain));
  const Certificate& leaf = chain[0];
  ASSIGN_OR_RETURN(const SpiffeId id, leaf.spiffe_id());
  RETURN_IF_ERROR(CheckLeaf(leaf, id));
  auto root_pem = root_pem_for(id.jurisdiction());
  if (!root_pem.ok()) {
    return PermissionDenied("certificate of {}: no root for jurisdiction {}: {}", id.Brief(),
                            id.jurisdiction(), Message(root_pem.status()));
  }
  auto root = Certificate::FromPem(*root_pem);
  if (!root.ok()) return Annotate(root.status(), "root of " + id.jurisdiction());
  for (const int purpose : {X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER}) {
    RETURN_IF_ERROR(CheckPurpose(purpose, chain, *root, id, now));
  }
  return PeerIdentity{id, leaf.spki(), leaf.key_hash(), leaf.not_after()};
}

}  // namespace concordat::crypto
