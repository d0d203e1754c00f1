#include "common/secret.h"

#include <string.h>

namespace concordat {

void Wipe(std::span<uint8_t> bytes) {
  // An empty span may have a null pointer, which explicit_bzero must not be given.
  if (!bytes.empty()) explicit_bzero(bytes.data(), bytes.size());
}

bool ConstantTimeEqual(ByteView a, ByteView b) {
  if (a.size() != b.size()) return false;
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<uint8_t>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace concordat
