#include "privacy/crypto/hash.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include <algorithm>
#include <fstream>

#include "common/files.h"
#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

// Fetched once: EVP_sha256() looks the algorithm up at every use.
const EVP_MD* Sha256Md() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Require(md != nullptr, "SHA256");
  return md;
}

EVP_MAC* Hmac() {
  static EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  Require(mac != nullptr, "HMAC");
  return mac;
}

EVP_MD_CTX* NewContext() {
  EVP_MD_CTX* ctx = EVP_MD_CTX_new();
  Require(ctx != nullptr, "EVP_MD_CTX_new");
  return ctx;
}

std::array<uint8_t, 4> TagLength(std::string_view tag) {
  const auto n = static_cast<uint32_t>(tag.size());
  return {static_cast<uint8_t>(n), static_cast<uint8_t>(n >> 8), static_cast<uint8_t>(n >> 16),
          static_cast<uint8_t>(n >> 24)};
}

}  // namespace

Digest Sha256(ByteView data) { return Sha256({data}); }

Digest Sha256(std::initializer_list<ByteView> parts) {
  Sha256Stream stream;
  for (ByteView part : parts) stream.Update(part);
  return stream.Finish();
}

void Sha256Stream::Deleter::operator()(evp_md_ctx_st* ctx) const { EVP_MD_CTX_free(ctx); }

Sha256Stream::Sha256Stream() : ctx_(NewContext()) {
  Require(EVP_DigestInit_ex2(ctx_.get(), Sha256Md(), nullptr) == 1, "EVP_DigestInit");
}

Sha256Stream::Sha256Stream(const Sha256Stream& other) : ctx_(NewContext()) {
  Require(EVP_MD_CTX_copy_ex(ctx_.get(), other.ctx_.get()) == 1, "EVP_MD_CTX_copy");
}

Sha256Stream& Sha256Stream::operator=(const Sha256Stream& other) {
  if (this != &other) *this = Sha256Stream(other);
  return *this;
}

Sha256Stream::Sha256Stream(Sha256Stream&&) noexcept = default;
Sha256Stream& Sha256Stream::operator=(Sha256Stream&&) noexcept = default;
Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Update(ByteView data) {
  if (data.empty()) return;
  Require(EVP_DigestUpdate(ctx_.get(), data.data(), data.size()) == 1, "EVP_DigestUpdate");
}

Digest Sha256Stream::Current() const { return Sha256Stream(*this).Finish(); }

Digest Sha256Stream::Finish() {
  Digest digest;
  Require(EVP_DigestFinal_ex(ctx_.get(), digest.bytes.data(), nullptr) == 1, "EVP_DigestFinal");
  Require(EVP_DigestInit_ex2(ctx_.get(), Sha256Md(), nullptr) == 1, "EVP_DigestInit");
  return digest;
}

Digest HmacSha256(ByteView key, ByteView data) {
  OpenSslPtr<EVP_MAC_CTX, EVP_MAC_CTX_free> ctx(EVP_MAC_CTX_new(Hmac()));
  Require(ctx != nullptr, "EVP_MAC_CTX_new");
  char name[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                               OSSL_PARAM_construct_end()};
  // A null pointer would mean "keep the key", an empty key must not.
  static constexpr uint8_t kNoKey = 0;
  Require(EVP_MAC_init(ctx.get(), key.empty() ? &kNoKey : key.data(), key.size(), params) == 1,
          "EVP_MAC_init");
  if (!data.empty()) Require(EVP_MAC_update(ctx.get(), data.data(), data.size()) == 1, "EVP_MAC_update");
  Digest mac;
  size_t size = 0;
  Require(EVP_MAC_final(ctx.get(), mac.bytes.data(), &size, mac.bytes.size()) == 1 && size == 32,
          "EVP_MAC_final");
  return mac;
}

StatusOr<Digest> Sha256File(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::not_found) return NotFound("no file {}", path.string());
  if (type != std::filesystem::file_type::regular) {
    return InvalidArgument("{}: expected a regular file", path.string());
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return PermissionDenied("{}: cannot be opened for reading", path.string());
  Sha256Stream stream;
  Bytes buffer(size_t{1} << 20);
  while (file) {
    file.read(reinterpret_cast<char*>(buffer.data()), static_cast<std::streamsize>(buffer.size()));
    stream.Update(ByteView(buffer).first(static_cast<size_t>(file.gcount())));
  }
  if (!file.eof()) return Unavailable("{}: reading failed", path.string());
  return stream.Finish();
}

Digest TaggedHash(std::string_view tag, ByteView body) {
  const auto length = TagLength(tag);
  return Sha256({length, AsBytes(tag), body});
}

Bytes TaggedMessage(std::string_view tag, ByteView body) {
  const auto length = TagLength(tag);
  Bytes message(length.size() + tag.size() + body.size());
  auto at = std::copy(length.begin(), length.end(), message.begin());
  at = std::copy(tag.begin(), tag.end(), at);
  std::copy(body.begin(), body.end(), at);
  return message;
}

}  // namespace concordat::crypto
