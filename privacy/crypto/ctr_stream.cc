#include "privacy/crypto/ctr_stream.h"

#include <algorithm>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

constexpr size_t kBlockBytes = 16;
// The plaintext: the keystream is the encryption of zeros. Small enough to stay in the first-level cache.
constexpr std::array<uint8_t, 16384> kZeros{};

const EVP_CIPHER* Aes256Ctr() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
  Require(cipher != nullptr, "AES-256-CTR");
  return cipher;
}

}  // namespace

void CtrStream::Deleter::operator()(evp_cipher_ctx_st* ctx) const { EVP_CIPHER_CTX_free(ctx); }

CtrStream::CtrStream(const Secret32& key) : ctx_(EVP_CIPHER_CTX_new()) {
  Require(ctx_ != nullptr, "EVP_CIPHER_CTX_new");
  const std::array<uint8_t, kBlockBytes> iv{};
  Require(EVP_EncryptInit_ex2(ctx_.get(), Aes256Ctr(), key.view().data(), iv.data(), nullptr) == 1,
          "AES-256-CTR");
}

CtrStream::CtrStream(CtrStream&&) noexcept = default;
CtrStream& CtrStream::operator=(CtrStream&&) noexcept = default;
CtrStream::~CtrStream() = default;

void CtrStream::SeekTo(uint64_t byte_offset) {
  std::array<uint8_t, kBlockBytes> iv{};
  const uint64_t block = byte_offset / kBlockBytes;
  for (size_t i = 0; i < 8; ++i) iv[15 - i] = static_cast<uint8_t>(block >> (8 * i));
  // Without a key OpenSSL keeps the key schedule and only sets the counter.
  Require(EVP_EncryptInit_ex2(ctx_.get(), nullptr, nullptr, iv.data(), nullptr) == 1, "AES-256-CTR");
  const int skip = static_cast<int>(byte_offset % kBlockBytes);
  if (skip > 0) {
    uint8_t passed[kBlockBytes];
    int n = 0;
    Require(EVP_EncryptUpdate(ctx_.get(), passed, &n, kZeros.data(), skip) == 1, "AES-256-CTR");
    Wipe(passed);
  }
  position_ = byte_offset;
}

void CtrStream::Keystream(uint64_t byte_offset, std::span<uint8_t> out) {
  if (byte_offset != position_) SeekTo(byte_offset);
  while (!out.empty()) {
    const size_t piece = std::min(out.size(), kZeros.size());
    int n = 0;
    Require(EVP_EncryptUpdate(ctx_.get(), out.data(), &n, kZeros.data(), static_cast<int>(piece)) == 1,
            "AES-256-CTR");
    out = out.subspan(piece);
    position_ += piece;
  }
}

CtrRandom::CtrRandom(const Secret32& seed) : stream_(seed) {}

CtrRandom::~CtrRandom() { Wipe(buffer_); }

void CtrRandom::Fill(std::span<uint8_t> out) {
  const size_t from_buffer = std::min(out.size(), available_);
  std::copy_n(buffer_.end() - static_cast<ptrdiff_t>(available_), from_buffer, out.begin());
  available_ -= from_buffer;
  position_ += from_buffer;
  out = out.subspan(from_buffer);
  if (out.size() >= buffer_.size()) {
    stream_.Keystream(position_, out);
    position_ += out.size();
  } else if (!out.empty()) {
    stream_.Keystream(position_, buffer_);
    std::copy_n(buffer_.begin(), out.size(), out.begin());
    available_ = buffer_.size() - out.size();
    position_ += out.size();
  }
}

}  // namespace concordat::crypto
