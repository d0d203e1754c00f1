#ifndef CONCORDAT_PRIVACY_CRYPTO_CTR_STREAM_H_
#define CONCORDAT_PRIVACY_CRYPTO_CTR_STREAM_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "common/random.h"
#include "common/secret.h"

struct evp_cipher_ctx_st;  // OpenSSL's EVP_CIPHER_CTX

namespace concordat::crypto {

/// The AES-256-CTR keystream of one key (NIST SP 800-38A, section 6.5): counter block i is i as a 128-bit big
/// endian number, beginning with 0, so byte k of the stream is byte k mod 16 of AES(key, k / 16). Any part
/// can be made by itself, in any order: parts made by several objects on several threads join without a seam.
/// One object belongs to one thread. One key makes one mask: who uses a part of the stream twice over
/// different data gives away their difference.
class CtrStream {
 public:
  explicit CtrStream(const Secret32& key);
  CtrStream(CtrStream&&) noexcept;
  CtrStream& operator=(CtrStream&&) noexcept;
  ~CtrStream();

  /// Fills `out` with the bytes of the stream from `byte_offset`. Consecutive calls cost no set-up. A piece
  /// of 16 KiB or more runs at the speed of the cipher.
  void Keystream(uint64_t byte_offset, std::span<uint8_t> out);

 private:
  void SeekTo(uint64_t byte_offset);

  struct Deleter {
    void operator()(evp_cipher_ctx_st* ctx) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Deleter> ctx_;
  uint64_t position_ = 0;
};

/// The random source that reads one seed's CtrStream from its beginning. As good as the seed: from OsRandom
/// for noise and keys, fixed for tests that must repeat. Does not protect what it gave before when its state
/// leaks later.
class CtrRandom final : public RandomSource {
 public:
  explicit CtrRandom(const Secret32& seed);
  ~CtrRandom() override;
  void Fill(std::span<uint8_t> out) override;
  /// How many bytes were given so far.
  uint64_t position() const { return position_; }

 private:
  static constexpr size_t kBufferBytes = 4096;

  CtrStream stream_;
  uint64_t position_ = 0;  // of the next byte handed out
  size_t available_ = 0;   // bytes at the end of buffer_ not yet handed out
  std::array<uint8_t, kBufferBytes> buffer_{};
};

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_CTR_STREAM_H_
