#include "policy/dataset_card.h"

#include <charconv>
#include <limits>

#include "common/files.h"
#include "policy/yaml_fields.h"

namespace concordat::policy {
namespace {

constexpr std::array<std::string_view, 5> kClasses = {"public", "internal", "confidential", "restricted",
                                                      "secret"};

DataClass ReadClass(YamlMap& map, std::string_view key) {
  return static_cast<DataClass>(map.Choice(key, {kClasses.begin(), kClasses.end()}));
}

DatasetCard::Classification ReadClassification(YamlMap map) {
  DatasetCard::Classification out;
  out.raw = ReadClass(map, "raw");
  out.embeddings = ReadClass(map, "embeddings");
  out.activations = ReadClass(map, "activations");
  out.logs = ReadClass(map, "logs");
  out.checkpoints = ReadClass(map, "checkpoints");
  out.deltas = ReadClass(map, "deltas");
  out.metrics = ReadClass(map, "metrics");
  return out;
}

StatusOr<double> ParseBudget(const std::string& text) {
  if (text == "unlimited") return std::numeric_limits<double>::infinity();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0 && value <= 1e18)) {
    return InvalidArgument(
        "expected a number above 0, up to 1e18, or the word unlimited, which says plainly that nothing is "
        "promised");
  }
  return value;
}

DatasetCard::Privacy ReadPrivacy(YamlMap map) {
  static constexpr PrivacyUnit kUnits[] = {PrivacyUnit::kSite, PrivacyUnit::kPerson, PrivacyUnit::kRecord};
  static constexpr BudgetPeriod kPeriods[] = {BudgetPeriod::kNone, BudgetPeriod::kYearly};
  DatasetCard::Privacy out;
  out.unit = kUnits[map.Choice("unit", {"site", "person", "record"})];
  out.epsilon = map.Parsed("epsilon", 0.0, ParseBudget);
  out.delta = map.Probability("delta");
  out.period = kPeriods[map.Choice("period", {"none", "yearly"})];
  return out;
}

}  // namespace

std::string_view DataClassName(DataClass data_class) {
  const auto index = static_cast<size_t>(data_class);
  return index < kClasses.size() ? kClasses[index] : "unknown";
}

std::string_view BudgetPeriodName(BudgetPeriod period) {
  return period == BudgetPeriod::kYearly ? "yearly" : "none";
}

StatusOr<DatasetCard> ParseDatasetCard(std::string_view text, std::string_view file_name,
                                       const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  DatasetCard card;
  card.name = ReadName(root, "name");
  card.path = ReadPath(root, "path", folder);
  card.kind =
      root.Choice("kind", {"jsonl", "text"}) == 0 ? DatasetCard::Kind::kJsonl : DatasetCard::Kind::kText;
  card.classification = ReadClassification(root.Map("classification"));
  card.legal_frameworks = root.Texts("legal_frameworks", 1, 32);
  card.residency = CheckNames(root, "residency", root.Texts("residency", 1, 100));
  card.sovereignty = CheckNames(root, "sovereignty", root.Texts("sovereignty", 1, 100));
  card.operation = CheckNames(root, "operation", root.Texts("operation", 1, 100));
  card.person_id_field = root.TextOr("person_id_field", "", 128);
  card.privacy = ReadPrivacy(root.Map("privacy"));
  card.retention = root.Text("retention", 1024);
  card.licence = root.Text("licence", 128);
  card.held_out_permille = static_cast<uint32_t>(root.Integer("held_out_permille", 0, 999));
  card.split_key = ReadPath(root, "split_key", folder);
  if (YamlMap canaries = root.MapOr("canaries"); canaries.present()) {
    card.canaries.key = ReadPath(canaries, "key", folder);
    card.canaries.count = static_cast<uint32_t>(canaries.Integer("count", kFewestCanaries, kMostCanaries));
  }
  if (file.clean() && card.privacy.unit == PrivacyUnit::kPerson && card.person_id_field.empty()) {
    root.Mistake("person_id_field",
                 "missing; a budget for each person needs the field that names the person");
  }
  RETURN_IF_ERROR(file.Finish());
  return card;
}

StatusOr<DatasetCard> LoadDatasetCard(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 20));
  return ParseDatasetCard(text, path, FolderOf(path));
}

}  // namespace concordat::policy
