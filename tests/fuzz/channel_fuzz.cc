#include "worker/sandbox/channel.h"

// What a trainer that was taken over could send to its worker, and the other way round.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto from = concordat::sandbox::DecodeFromTrainer({data, size});
  if (from.ok()) {
    const concordat::Bytes again = concordat::sandbox::Encode(*from);
    if (again != concordat::Bytes(data, data + size)) __builtin_trap();  // one message, one byte string
  }
  (void)concordat::sandbox::DecodeToTrainer({data, size});
  return 0;
}
