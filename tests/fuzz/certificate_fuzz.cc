// Any bytes as a certificate in DER, and as PEM text: what a peer sends before it is known. And as keys.
#include "privacy/crypto/x509.h"
#include "tests/fuzz/choices.h"

namespace concordat::fuzz {
namespace {

constexpr Instant kNow{Millis(1'800'000'000'000)};

/// Of a peer, with the certificate itself as its jurisdiction's root: the best case for whoever made it.
void Look(const crypto::Certificate& certificate) {
  (void)certificate.spiffe_id();
  (void)certificate.common_name();
  (void)certificate.organization();
  (void)certificate.is_ca();
  (void)certificate.is_self_signed();
  const std::string pem = certificate.ToPem();
  const auto again = crypto::Certificate::FromPem(pem);
  Must(again.ok() && again->fingerprint() == certificate.fingerprint(), "a certificate comes back");
  const auto root = [&](const std::string&) -> StatusOr<std::string> { return pem; };
  const auto peer = crypto::VerifyPeerChain(pem + pem, root, kNow);
  if (!peer.ok()) return;
  const auto id = certificate.spiffe_id();
  Must(id.ok() && *id == peer->id && peer->key_hash == certificate.key_hash(), "a peer is its certificate's");
  Must(!certificate.is_ca(), "no CA is a peer");
}

void ReadChain(std::string_view text) {
  const auto chain = crypto::SplitPemChain(text);
  if (!chain.ok()) return;
  Must(!chain->empty() && chain->size() <= crypto::kMaxChainCertificates, "a chain is short");
  for (const std::string& pem : *chain) {
    const auto again = crypto::SplitPemChain(pem);
    Must(again.ok() && *again == std::vector<std::string>{pem}, "a chain's parts are chains of one");
    (void)crypto::Certificate::FromPem(pem);  // its times or its key may not do
  }
}

void ReadKey(ByteView spki) {
  const auto key = crypto::VerifyKey::FromSpki(spki);
  if (key.ok()) Must(key->spki() == ToBytes(spki), "a key has one encoding");
}

/// Keys in files: one's own, and a coordinator's in a charter.
void ReadKeyFiles(ByteView pem) {
  if (const auto own = crypto::SigningKey::FromPem(pem); own.ok()) {
    const auto again = crypto::SigningKey::FromPem(own->ToPem().view());
    Must(again.ok() && again->PublicSpki() == own->PublicSpki(), "a private key comes back");
  }
  if (const auto key = crypto::VerifyKey::FromPem(AsText(pem)); key.ok()) {
    const auto again = crypto::VerifyKey::FromPem(key->ToPem());
    Must(again.ok() && *again == *key, "a public key comes back");
  }
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat;
  if (const auto certificate = crypto::Certificate::FromDer({data, size}); certificate.ok())
    fuzz::Look(*certificate);
  fuzz::ReadChain(AsText({data, size}));
  fuzz::ReadKey({data, size});
  fuzz::ReadKeyFiles({data, size});
  return 0;
}
