#ifndef CONCORDAT_WORKER_MODEL_CANARIES_H_
#define CONCORDAT_WORKER_MODEL_CANARIES_H_

#include <cstdint>
#include <vector>

#include "common/secret.h"
#include "worker/model/dataset.h"

namespace concordat::model {

/// A made-up record that nobody could know, planted to see whether an adapter gives it away.
struct Canary {
  Document document;        // of the dataset's kind, with digest (and person)
  bool trained_on = false;  // its coin
};

/// What a region plants, and holds an adapter against.
struct CanarySet {
  std::vector<Canary> canaries;      // each planted or not by a fair coin of its own
  std::vector<Document> references;  // made in the same way and never trained on
};

/// References for each canary: so many that their own chance hardly shows in an exposure.
inline constexpr uint32_t kReferencesPerCanary = 4;
inline constexpr uint32_t kFewestCanaries = 8;
inline constexpr uint32_t kMostCanaries = 10'000;

/// Makes the region's canaries anew, always the same ones: a fixed sentence, then twelve words of a list of
/// 256, 96 bits of chance. Words and coin of each come from HKDF over `key`, a label and its number, expanded
/// by AES-CTR, so that no two kinds of bytes are ever the same. Nothing is kept: texts and coins are as
/// secret as the key, which stays in the region.
///
/// Every canary is a privacy unit of its own: a record like any other, and where records name persons a
/// person who has nothing else. Canaries go by no split: who is planted is trained on, who is not is in
/// neither half.
/// \param key of the region, 32 bytes from the operating system; \param count 0, or kFewestCanaries to
/// kMostCanaries. Another count adds or drops the last ones. \param split_key, \param persons of the dataset:
/// what its records' digests are keyed with, and whether they name persons. InvalidArgument: another count.
StatusOr<CanarySet> MakeCanaries(const Secret32& key, uint32_t count, DocumentKind kind,
                                 const Secret32& split_key, bool persons);

/// Adds the canaries whose coin says so to what is trained on, in the order of digests that SplitDataset
/// gives.
void Plant(const CanarySet& set, std::vector<Document>& train);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_CANARIES_H_
