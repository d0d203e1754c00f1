// What the command reads of adapters and evaluations that somebody else made: privacy.json and chain.json of
// a released folder, an evaluation's file, a coordinator's account of a job's rounds. The first byte says
// which.
#include <nlohmann/json.hpp>

#include "cli/adapter_chain.h"
#include "cli/evaluation.h"
#include "cli/leak.h"
#include "cli/released_privacy.h"
#include "tests/fuzz/scratch.h"

namespace concordat::fuzz {
namespace {

void ReadPrivacy(const Scratch& folder, ByteView content) {
  folder.Put(cli::kPrivacyFile, content);
  const auto claim = cli::ReadClaim((folder / ".").string());
  if (claim.ok()) {
    Must(claim->delta >= 0 && claim->delta <= 1, "delta is a probability");
    Must(!claim->epsilon.has_value() || *claim->epsilon >= 0, "epsilon is none or not negative");
  }
  const auto statements = cli::ReadStatements(folder / ".");
  if (!statements.ok()) return;
  std::vector<policy::SignedLedgerStatement> all;
  for (const auto& statement : *statements) {
    (void)policy::VerifyLedgerStatement(statement);
    (void)cli::AddStatement(all, statement);
  }
}

/// A job's chain as it is claimed; without blobs it never verifies but where it has no round.
void Follow(const cli::ChainRecord& record, uint32_t rounds) {
  const auto nothing = [](const Digest&, uint64_t) -> StatusOr<Bytes> { return NotFound("no blob"); };
  const auto adapter = cli::VerifyChain(record, rounds, nothing);
  Must(!adapter.ok() || rounds == 0, "no round verifies without its blob");
  (void)cli::PrivacyOf(record, rounds, Digest{}, {});
}

void ReadChain(const Scratch& folder, Choices& c) {
  const size_t low = c.Byte(), high = c.Byte();
  folder.Put(cli::kChainFile, c.Take(low | high << 8));
  folder.Put(cli::kJobFile, c.Rest());
  const auto read = cli::ReadAdapterFolder(folder / ".");
  if (!read.ok()) return;
  Follow(read->record, read->rounds);
  Must(!cli::VerifyAdapterFolder(folder / ".").ok() || read->rounds == 0, "no folder verifies without blobs");
}

void ReadEvaluation(std::string_view text) {
  const auto evaluation = cli::EvaluationFromJson(nlohmann::json::parse(text, nullptr, false));
  if (!evaluation.ok()) {
    Must(evaluation.status().code() == StatusCode::kInvalidArgument, "a bad evaluation is InvalidArgument");
    return;
  }
  for (size_t model = 0; model < evaluation->models.size(); ++model) {
    (void)evaluation->Mean(model);
    (void)evaluation->Worst(model);
  }
  (void)evaluation->Harmed();
  (void)evaluation->NothingReleased();
  const auto again = cli::EvaluationFromJson(nlohmann::json::parse(cli::ToJson(*evaluation).dump()));
  Must(again.ok() && cli::ToJson(*again) == cli::ToJson(*evaluation), "an evaluation comes back");
}

void ReadRounds(ByteView content) {
  v1::RoundsReply reply;
  if (!reply.ParseFromArray(content.data(), static_cast<int>(content.size()))) return;
  const auto record = cli::ChainRecordOf(JobId{}, "spiffe://law0/operator/anne", reply);
  if (record.ok()) Follow(*record, static_cast<uint32_t>(record->rounds.size()));
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::fuzz;
  static const Scratch folder;
  Choices c(data, size);
  switch (c.Below(4)) {
    case 0:
      ReadPrivacy(folder, c.Rest());
      return 0;
    case 1:
      ReadChain(folder, c);
      return 0;
    case 2:
      ReadEvaluation(concordat::AsText(c.Rest()));
      return 0;
    default:
      ReadRounds(c.Rest());
      return 0;
  }
}
