#ifndef CONCORDAT_TESTS_UNIT_POLICY_POLICY_FIXTURE_H_
#define CONCORDAT_TESTS_UNIT_POLICY_POLICY_FIXTURE_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "common/files.h"
#include "common/random.h"
#include "policy/charter.h"
#include "policy/dataset_card.h"
#include "policy/job.h"
#include "policy/region_policy.h"
#include "tests/support/status_matchers.h"

namespace concordat::policy {

/// Bytes that differ from call to call and are the same in every run.
class CountingRandom final : public RandomSource {
 public:
  void Fill(std::span<uint8_t> out) override {
    for (uint8_t& b : out) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      b = static_cast<uint8_t>(state_ >> 56);
    }
  }

 private:
  uint64_t state_ = 7;
};

inline Instant At(const char* text) { return ParseInstant(text).value(); }
inline Instant Now() { return At("2026-11-22T07:00:00.000Z"); }

inline SpiffeId Id(const char* text) { return SpiffeId::Parse(text).value(); }

inline std::string ReadExample(const std::string& name) { return ReadTextFile("configs/" + name).value(); }

/// Writes without a sync: for tests that do so thousands of times.
inline void WriteQuickly(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

/// `text` with its only occurrence of `from` replaced.
inline std::string With(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << "the test looks for what is not there: " << from;
  if (at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

/// Three jurisdictions and a coordinator on neutral ground, with all their keys.
struct World {
  CountingRandom random;
  std::map<std::string, crypto::SigningKey> roots;
  crypto::SigningKey coordinator_key = crypto::SigningKey::Generate(random);
  Charter charter;

  explicit World(std::vector<std::string> members = {"de.example", "es.example", "fr.example"}) {
    charter.name = "test";
    charter.version = 1;
    charter.minimum_cohort = 3;
    for (const std::string& name : members) {
      charter.members.push_back({name, "law of " + name, MakeRoot(name)});
    }
    charter.coordinator.id = Id("spiffe://neutral.example/coordinator/main");
    charter.coordinator.root_pem = MakeRoot("neutral.example");
    charter.coordinator.spki = coordinator_key.PublicSpki();
    charter.coordinator.address = "127.0.0.1:7443";
    charter.coordinator.tls_name = "localhost";
    for (ArtefactKind kind : {ArtefactKind::kDelta, ArtefactKind::kMetrics, ArtefactKind::kEvaluation}) {
      charter.flows.push_back({kind, "*", "neutral.example", LegalBasis::kConsent});
    }
    charter.flows.push_back({ArtefactKind::kAdapter, "neutral.example", "*", LegalBasis::kConsent});
  }

  std::string MakeRoot(const std::string& name) {
    const auto it = roots.emplace(name, crypto::SigningKey::Generate(random)).first;
    return crypto::MakeRootCertificate(it->second, name, Now() - std::chrono::hours(1),
                                       Now() + std::chrono::days(3650), random)
        .value();
  }
  const std::string& RootPem(const std::string& name) const {
    const CharterMember* member = charter.Member(name);
    return member != nullptr ? member->root_pem : charter.coordinator.root_pem;
  }
  std::string Leaf(const SpiffeId& id, const crypto::SigningKey& key) {
    crypto::CertificateProfile profile;
    profile.id = id;
    profile.spki = key.PublicSpki();
    profile.not_before = Now() - std::chrono::hours(1);
    profile.not_after = Now() + std::chrono::days(90);
    return crypto::IssueLeaf(roots.at(id.jurisdiction()), RootPem(id.jurisdiction()), profile, random)
        .value();
  }
  /// The charter's file, signed by all its members.
  std::string SignedFile() {
    std::string text = CharterText(charter);
    for (const CharterMember& member : charter.members) {
      auto next = SignCharterFile(text, "charter.yaml", member.jurisdiction, roots.at(member.jurisdiction));
      EXPECT_OK(next);
      text = *next;
    }
    return text;
  }
};

/// The job of configs/job.yaml.
inline JobSpec ExampleJob() { return ParseJob(ReadExample("job.yaml"), "job.yaml").value(); }
inline RegionPolicy ExamplePolicy() {
  return ParseRegionPolicy(ReadExample("region-policy.yaml"), "region-policy.yaml").value();
}
inline DatasetCard ExampleCard() {
  return ParseDatasetCard(ReadExample("dataset-card.yaml"), "dataset-card.yaml", "/data").value();
}

}  // namespace concordat::policy

#endif  // CONCORDAT_TESTS_UNIT_POLICY_POLICY_FIXTURE_H_
