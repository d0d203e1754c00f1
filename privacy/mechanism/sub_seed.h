#ifndef CONCORDAT_PRIVACY_MECHANISM_SUB_SEED_H_
#define CONCORDAT_PRIVACY_MECHANISM_SUB_SEED_H_

#include <cstdint>
#include <string_view>

#include "common/canonical.h"
#include "privacy/crypto/hkdf.h"

namespace concordat::internal {

/// A seed of its own for every use of `seed`: HKDF with the purpose (a literal) and a number as its info.
inline Secret32 SubSeed(const Secret32& seed, std::string_view purpose, uint64_t index) {
  CanonicalWriter info;
  info.Text(purpose);
  info.U64(index);
  return crypto::HkdfSha256(seed.view(), {}, info.bytes());
}

}  // namespace concordat::internal

#endif  // CONCORDAT_PRIVACY_MECHANISM_SUB_SEED_H_
