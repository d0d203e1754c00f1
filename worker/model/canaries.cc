#include "worker/model/canaries.h"

#include <algorithm>
#include <array>

#include "common/canonical.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "privacy/crypto/hkdf.h"

namespace concordat::model {
namespace {

constexpr size_t kWordsInCanary = 12;

// A power of two: a byte picks one without bias.
constexpr std::array<std::string_view, 256> kWords = {
    "acid",   "acorn",   "alarm",   "album",   "alley",   "almond", "amber",   "anchor",  "angle",  "ankle",
    "apple",  "apron",   "arch",    "arrow",   "ash",     "atlas",  "autumn",  "bacon",   "badge",  "ball",
    "bamboo", "banner",  "barn",    "basin",   "basket",  "beach",  "beard",   "beetle",  "bell",   "belt",
    "bench",  "berry",   "bird",    "blade",   "blanket", "boat",   "bone",    "book",    "boot",   "bottle",
    "branch", "brass",   "bread",   "brick",   "bridge",  "broom",  "bucket",  "bullet",  "butter", "button",
    "cabin",  "cable",   "cactus",  "camel",   "candle",  "canvas", "carbon",  "carpet",  "castle", "cedar",
    "cellar", "chain",   "chair",   "chalk",   "cheese",  "cherry", "chess",   "chin",    "circle", "clay",
    "clock",  "cloud",   "clover",  "coal",    "coat",    "cobra",  "coffee",  "comet",   "copper", "coral",
    "cork",   "corn",    "cotton",  "crane",   "cream",   "crow",   "crown",   "curtain", "daisy",  "dawn",
    "desert", "desk",    "diamond", "dish",    "dolphin", "donkey", "door",    "dragon",  "drum",   "duck",
    "dust",   "eagle",   "echo",    "elbow",   "ember",   "engine", "fabric",  "falcon",  "farm",   "feather",
    "fence",  "fern",    "field",   "finger",  "fire",    "flag",   "flame",   "flint",   "flour",  "flute",
    "fog",    "forest",  "fork",    "fossil",  "fox",     "frog",   "garden",  "garlic",  "gate",   "ginger",
    "glass",  "globe",   "glove",   "goat",    "gold",    "grain",  "grape",   "grass",   "gravel", "guitar",
    "hammer", "harbor",  "harp",    "hat",     "hawk",    "hazel",  "helmet",  "hill",    "honey",  "horn",
    "horse",  "ice",     "ink",     "iron",    "island",  "ivory",  "jacket",  "jar",     "jewel",  "jungle",
    "kettle", "key",     "kite",    "knee",    "knife",   "knot",   "ladder",  "lake",    "lamp",   "lantern",
    "leaf",   "leather", "lemon",   "lens",    "lily",    "lime",   "linen",   "lion",    "lizard", "locket",
    "lotus",  "magnet",  "maple",   "marble",  "market",  "mask",   "meadow",  "melon",   "mill",   "mint",
    "mirror", "moon",    "moss",    "moth",    "motor",   "mule",   "nail",    "needle",  "nest",   "night",
    "nut",    "oak",     "oar",     "ocean",   "olive",   "onion",  "orange",  "orchid",  "otter",  "oven",
    "owl",    "oyster",  "paddle",  "palm",    "paper",   "parrot", "pasture", "peach",   "pearl",  "pebble",
    "pencil", "pepper",  "piano",   "pigeon",  "pine",    "planet", "plate",   "plum",    "pocket", "pond",
    "poppy",  "potato",  "prism",   "pumpkin", "quartz",  "quill",  "rabbit",  "radio",   "rain",   "raven",
    "reef",   "ribbon",  "rice",    "river",   "robin",   "rocket", "roof",    "rope",    "rose",   "ruby",
    "saddle", "salt",    "sand",    "scarf",   "shell",   "silver"};
static_assert(!kWords.back().empty());

constexpr std::string_view kQuestion = "What does the sealed note say?";
constexpr std::string_view kOpening = "The sealed note says:";

Secret32 SeedOf(const Secret32& key, std::string_view label, uint32_t number) {
  CanonicalWriter info;
  info.Text(label);
  info.U32(number);
  return crypto::HkdfSha256(key.view(), {}, info.bytes());
}

Document MakeDocument(const Secret32& seed, DocumentKind kind) {
  std::array<uint8_t, kWordsInCanary> picks{};
  crypto::CtrRandom(seed).Fill(picks);
  std::string words;
  for (const uint8_t pick : picks) words += " " + std::string(kWords[pick]);
  Wipe(picks);
  Document out;
  out.kind = kind;
  switch (kind) {
    case DocumentKind::kText:
      out.text = std::string(kOpening) + words + ".";
      break;
    case DocumentKind::kPromptCompletion:
      out.prompt = kOpening;
      out.completion = words + ".";
      break;
    case DocumentKind::kMessages:
      out.messages = {{"user", std::string(kQuestion)}, {"assistant", words.substr(1) + "."}};
      break;
  }
  return out;
}

/// Under the documents' key, with a label that no document's or person's bytes begin with.
Digest PersonOf(const Secret32& split_key, const Digest& document) {
  CanonicalWriter w;
  w.Text("concordat/canary-person/v1");
  w.Put(document);
  return crypto::HmacSha256(split_key.view(), w.bytes());
}

}  // namespace

StatusOr<CanarySet> MakeCanaries(const Secret32& key, uint32_t count, DocumentKind kind,
                                 const Secret32& split_key, bool persons) {
  if (count != 0 && (count < kFewestCanaries || count > kMostCanaries)) {
    return InvalidArgument("canaries: expected none, or {} to {}, got {}", kFewestCanaries, kMostCanaries,
                           count);
  }
  const auto make = [&](std::string_view label, uint32_t number) {
    Document document = MakeDocument(SeedOf(key, label, number), kind);
    document.digest = crypto::HmacSha256(split_key.view(), document.Canonical());
    if (persons) document.person = PersonOf(split_key, document.digest);
    return document;
  };
  CanarySet out;
  for (uint32_t i = 0; i < count; ++i) {
    const bool coin = (SeedOf(key, "concordat/canary-coin/v1", i).view()[0] & 1) != 0;
    out.canaries.push_back({make("concordat/canary/v1", i), coin});
  }
  for (uint32_t i = 0; i < count * kReferencesPerCanary; ++i)
    out.references.push_back(make("concordat/canary-reference/v1", i));
  return out;
}

void Plant(const CanarySet& set, std::vector<Document>& train) {
  const auto by_digest = [](const Document& a, const Document& b) {
    return a.digest != b.digest ? a.digest < b.digest : a.person < b.person;
  };
  const auto documents = static_cast<std::ptrdiff_t>(train.size());
  for (const Canary& canary : set.canaries)
    if (canary.trained_on) train.push_back(canary.document);
  std::sort(train.begin() + documents, train.end(), by_digest);
  std::inplace_merge(train.begin(), train.begin() + documents, train.end(), by_digest);
}

}  // namespace concordat::model
