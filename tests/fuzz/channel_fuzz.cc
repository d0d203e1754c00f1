#include "worker/sandbox/channel.h"

// What a trainer that was taken over could send to its worker, and the other way round.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto from = concordat::sandbox::DecodeFromTrainer({data, size});
  if (from.ok()) {
    // What was taken (a failure's text without control characters) has one byte string from then on.
    const concordat::Bytes again = concordat::sandbox::Encode(*from);
    const auto twice = concordat::sandbox::DecodeFromTrainer(again);
    if (!twice.ok() || concordat::sandbox::Encode(*twice) != again) __builtin_trap();
  }
  const auto to = concordat::sandbox::DecodeToTrainer({data, size});
  // The worker's words are not repaired: what is taken is what Encode would have written.
  if (to.ok() && concordat::sandbox::Encode(*to) != concordat::Bytes(data, data + size)) __builtin_trap();
  return 0;
}
