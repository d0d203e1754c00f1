#include "privacy/accounting/privacy_unit.h"

#include <array>
#include <span>
#include <string>
#include <utility>

namespace concordat {
namespace {

template <typename E>
using Names = std::span<const std::pair<E, std::string_view>>;

template <typename E>
std::string_view TextOf(Names<E> names, E value) {
  for (const auto& [v, text] : names)
    if (v == value) return text;
  return "unknown";
}

template <typename E>
StatusOr<E> Parse(Names<E> names, std::string_view what, std::string_view text) {
  std::string expected;
  for (const auto& [v, name] : names) {
    if (name == text) return v;
    expected += (expected.empty() ? "'" : ", '") + std::string(name) + "'";
  }
  return InvalidArgument("{}: expected one of {}, got '{}'", what, expected, text);
}

constexpr std::array<std::pair<PrivacyUnit, std::string_view>, 3> kUnits = {{
    {PrivacyUnit::kSite, "site"},
    {PrivacyUnit::kPerson, "person"},
    {PrivacyUnit::kRecord, "record"},
}};
constexpr std::array<std::pair<Neighbour, std::string_view>, 3> kNeighbours = {{
    {Neighbour::kZeroOut, "zero_out"},
    {Neighbour::kAddRemove, "add_remove"},
    {Neighbour::kReplaceOne, "replace_one"},
}};
constexpr std::array<std::pair<NoisePlace, std::string_view>, 2> kPlaces = {{
    {NoisePlace::kLocal, "local"},
    {NoisePlace::kDistributed, "distributed"},
}};

}  // namespace

std::string_view PrivacyUnitText(PrivacyUnit unit) { return TextOf<PrivacyUnit>(kUnits, unit); }
std::string_view NeighbourText(Neighbour neighbour) { return TextOf<Neighbour>(kNeighbours, neighbour); }
std::string_view NoisePlaceText(NoisePlace place) { return TextOf<NoisePlace>(kPlaces, place); }
StatusOr<PrivacyUnit> ParsePrivacyUnit(std::string_view text) {
  return Parse<PrivacyUnit>(kUnits, "privacy unit", text);
}
StatusOr<Neighbour> ParseNeighbour(std::string_view text) {
  return Parse<Neighbour>(kNeighbours, "neighbour relation", text);
}
StatusOr<NoisePlace> ParseNoisePlace(std::string_view text) {
  return Parse<NoisePlace>(kPlaces, "place of noise", text);
}

}  // namespace concordat
