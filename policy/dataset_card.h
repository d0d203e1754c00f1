#ifndef CONCORDAT_POLICY_DATASET_CARD_H_
#define CONCORDAT_POLICY_DATASET_CARD_H_

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "privacy/accounting/ledger_arithmetic.h"

namespace concordat::policy {

/// How sensitive something is, ascending. What is kSecret never leaves its region, whatever a policy says.
enum class DataClass : uint8_t { kPublic, kInternal, kConfidential, kRestricted, kSecret };
std::string_view DataClassName(DataClass data_class);

/// When a budget starts anew: never, or with each calendar year (UTC).
enum class BudgetPeriod : uint8_t { kNone, kYearly };
std::string_view BudgetPeriodName(BudgetPeriod period);

/// How many canaries a dataset may have, when it has any.
inline constexpr uint32_t kFewestCanaries = 8;
inline constexpr uint32_t kMostCanaries = 10'000;

/// One file per dataset; configs/dataset-card.yaml is the commented example.
struct DatasetCard {
  enum class Kind : uint8_t { kJsonl, kText };
  std::string name;            // IsName
  std::filesystem::path path;  // a file or folder; absolute once loaded
  Kind kind = Kind::kText;
  /// Of the raw records and of everything derived from them.
  struct Classification {
    DataClass raw{}, embeddings{}, activations{}, logs{}, checkpoints{}, deltas{}, metrics{};
  } classification;
  std::vector<std::string> legal_frameworks;
  /// Where it may be stored and processed / whose law governs it / who may operate on it: jurisdictions.
  /// Three separate questions with three separate answers.
  std::vector<std::string> residency;
  std::vector<std::string> sovereignty;
  std::vector<std::string> operation;
  std::string person_id_field;  // empty: none
  struct Privacy {
    PrivacyUnit unit = PrivacyUnit::kSite;
    double epsilon = 0;  // infinity when the card says `unlimited`
    double delta = 0;
    BudgetPeriod period = BudgetPeriod::kNone;
  } privacy;
  std::string retention;  // text for people: how long, and what happens then
  std::string licence;
  uint32_t held_out_permille = 0;   // share of documents kept for evaluation
  std::filesystem::path split_key;  // file of 32 bytes that decides each document's side
  /// Made-up records that `eval --leak` looks for; a fair coin plants each among the training records or not.
  struct Canaries {
    uint32_t count = 0;         // 0: none
    std::filesystem::path key;  // file of 32 bytes that they and their coins are made from
  } canaries;

  PrivacyBudget budget() const {
    return {privacy.unit, NeighbourOf(privacy.unit), privacy.epsilon, privacy.delta};
  }
};

/// Reads a card strictly; see YamlMap for the form of errors. Relative paths are taken from `folder`.
StatusOr<DatasetCard> ParseDatasetCard(std::string_view text, std::string_view file_name,
                                       const std::filesystem::path& folder);
StatusOr<DatasetCard> LoadDatasetCard(const std::string& path);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_DATASET_CARD_H_
