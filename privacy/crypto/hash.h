#ifndef CONCORDAT_PRIVACY_CRYPTO_HASH_H_
#define CONCORDAT_PRIVACY_CRYPTO_HASH_H_

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "common/bytes.h"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX: only this folder's sources see its headers.

namespace concordat::crypto {

/// SHA-256 (FIPS 180-4). Any thread.
///
/// Here and in the whole folder: a call without a status cannot fail for any input. If OpenSSL itself cannot
/// work (no memory, no provider), the process ends rather than continue without cryptography.
Digest Sha256(ByteView data);
/// SHA-256 of the parts one after the other, with nothing between them: where a part's length can vary, write
/// it too, or two lists of parts share one digest.
Digest Sha256(std::initializer_list<ByteView> parts);

/// A running SHA-256. A copy goes on by itself. One object belongs to one thread.
class Sha256Stream {
 public:
  Sha256Stream();
  Sha256Stream(const Sha256Stream& other);
  Sha256Stream& operator=(const Sha256Stream& other);
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;
  ~Sha256Stream();

  void Update(ByteView data);
  /// The digest of what came so far; the stream can go on.
  Digest Current() const;
  /// The digest of all that came; the stream then begins anew, empty.
  Digest Finish();

 private:
  struct Deleter {
    void operator()(evp_md_ctx_st* ctx) const;
  };
  std::unique_ptr<evp_md_ctx_st, Deleter> ctx_;
};

/// HMAC-SHA-256 (RFC 2104). Any key length, the empty one included. Compare with ConstantTimeEqual.
Digest HmacSha256(ByteView key, ByteView data);

/// SHA-256 of a file of any length, read in pieces. NotFound when there is none.
StatusOr<Digest> Sha256File(const std::filesystem::path& path);

/// SHA-256(u32le len(tag) ‖ tag ‖ body): hashes made for one purpose can never pass for another's.
Digest TaggedHash(std::string_view tag, ByteView body);

/// u32le len(tag) ‖ tag ‖ body: what TaggedHash hashes and SigningKey signs.
Bytes TaggedMessage(std::string_view tag, ByteView body);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_HASH_H_
