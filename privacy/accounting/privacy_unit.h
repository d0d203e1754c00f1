#ifndef CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_UNIT_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_UNIT_H_

#include <cstdint>
#include <string_view>

#include "common/status.h"

// The words of every promise: whose participation is hidden, from what it is told apart, by whose noise.
namespace concordat {

/// Whose participation is hidden.
enum class PrivacyUnit : uint8_t { kSite = 1, kPerson = 2, kRecord = 3 };
/// What two neighbouring inputs differ in. Kinds never mix: a bound under one says nothing under another.
enum class Neighbour : uint8_t {
  kZeroOut = 1,     // a unit's contribution is replaced by zero
  kAddRemove = 2,   // a unit is added or removed
  kReplaceOne = 3,  // a unit is replaced by another: twice the sensitivity of zero-out
};
/// Who adds the noise that counts.
enum class NoisePlace : uint8_t {
  kLocal = 1,        // each site enough for itself: holds even if everyone else colludes
  kDistributed = 2,  // each site a share: holds with h honest survivors
};
std::string_view PrivacyUnitText(PrivacyUnit unit);
std::string_view NeighbourText(Neighbour neighbour);
std::string_view NoisePlaceText(NoisePlace place);
StatusOr<PrivacyUnit> ParsePrivacyUnit(std::string_view text);
StatusOr<Neighbour> ParseNeighbour(std::string_view text);
StatusOr<NoisePlace> ParseNoisePlace(std::string_view text);

/// The relation that a unit is priced under: who takes part is known of sites, so that one is zeroed out; of
/// a person or a record it is not even known that there is one.
constexpr Neighbour NeighbourOf(PrivacyUnit unit) {
  return unit == PrivacyUnit::kSite ? Neighbour::kZeroOut : Neighbour::kAddRemove;
}

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_PRIVACY_UNIT_H_
