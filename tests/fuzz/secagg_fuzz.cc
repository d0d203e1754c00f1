// libFuzzer target: whatever a snapshot holds and whatever the coordinator says, a worker refuses or goes on;
// it never crashes. The first byte chooses; the rest is a snapshot, or edits of a true message of step 2, 4,
// 6 or 7.
#include <cstdint>

#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::secagg::testing {
namespace {

// Overwrites bytes of a true message: pairs (position, value) from the input.
template <typename T>
void Edit(std::span<T> target, ByteView edits) {
  auto* bytes = reinterpret_cast<uint8_t*>(target.data());
  for (size_t k = 0; k + 2 < edits.size() && !target.empty(); k += 3) {
    const size_t at = (edits[k] | edits[k + 1] << 8) % target.size_bytes();
    bytes[at] ^= edits[k + 2];
  }
}

void FuzzOne(uint8_t kind, ByteView rest) {
  World world(3);
  Attempt attempt(world);
  if (kind % 4 == 0) {
    (void)attempt.RestoreWorker(1, rest);
  } else if (kind % 4 == 1) {
    attempt.RunUntil(CoordinatorPhase::kShares);
    Keys keys = attempt.Waiting<Keys>(1).body;
    for (Signed<Advert>& advert : keys.adverts) {
      if (!rest.empty() && rest[0] % 3 == advert.body.site % 3)
        Edit(std::span(&advert.body, 1), rest.subspan(1));
    }
    if (rest.size() > 1) keys.chains.resize(rest[1] % 5);
    (void)attempt.AtWorker(1, attempt.ByCoordinator(keys));
  } else if (kind % 4 == 2) {
    attempt.RunUntil(CoordinatorPhase::kInput);
    Delivery delivery = attempt.Waiting<Delivery>(1).body;
    for (Delivery::Row& row : delivery.rows) {
      if (!rest.empty() && rest[0] % 3 != row.dealer % 3) continue;
      Edit(std::span(row.commitments.Change()), rest);
      Edit(std::span<uint8_t>(row.ciphertext), rest);
      if (rest.size() > 1 && rest[1] % 7 == 0) row.dealer = rest[1];
    }
    (void)attempt.AtWorker(1, attempt.ByCoordinator(delivery));
  } else {
    attempt.RunUntil(CoordinatorPhase::kUnmask);
    AgreementBundle bundle = attempt.Waiting<AgreementBundle>(1).body;
    Edit(std::span(bundle.survivors), rest);
    Edit(std::span(bundle.signatures), rest);
    (void)attempt.AtWorker(1, attempt.ByCoordinator(bundle));
  }
}

}  // namespace
}  // namespace concordat::secagg::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  concordat::secagg::testing::FuzzOne(data[0], {data + 1, size - 1});
  return 0;
}
