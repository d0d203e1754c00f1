// Files that a region is handed, or finds where it left them: pairwise keys that a peer carried, a ledger's
// signed statement, the anchors of a journal and of a ledger, an address. The first byte says which.
#include <sys/stat.h>

#include <algorithm>

#include "aggregation/strict_json.h"
#include "common/anchor.h"
#include "policy/ledger_mark.h"
#include "policy/ledger_statement.h"
#include "policy/node_config.h"
#include "policy/pairwise_key_files.h"
#include "tests/fuzz/scratch.h"

namespace concordat::fuzz {
namespace {

constexpr size_t kMostKeyFiles = 4;

/// Whether `message` repeats a longer part of what a key's line says.
bool Repeats(const std::string& message, std::string_view content) {
  constexpr size_t kPart = 12;
  const size_t key = content.rfind('\n', content.empty() ? 0 : content.size() - 2);
  if (key == std::string_view::npos) return false;
  const std::string_view line = content.substr(key + 1);
  for (size_t at = 0; at + kPart <= line.size(); ++at) {
    const std::string_view part = line.substr(at, kPart);
    const bool digits = std::ranges::all_of(part, [](char c) { return std::isxdigit(c & 0x7f) != 0; });
    if (digits && message.find(part) != std::string::npos) return true;
  }
  return false;
}

/// A folder of keys: each file after its length as u16.
void ReadKeys(Choices& c) {
  static const Scratch folder;  // of mode 0700, as mkdtemp makes it
  static const SpiffeId self = SpiffeId::Parse("spiffe://law0/worker/w1").value();
  std::vector<std::string> contents;
  for (size_t i = 0; i < kMostKeyFiles; ++i) {
    const std::string name = fmt::format("{}.key", i);
    std::filesystem::remove(folder / name.c_str());
    if (c.done()) continue;
    const size_t low = c.Byte(), high = c.Byte();
    const ByteView content = c.Take(low | high << 8);
    folder.Put(name.c_str(), content);
    Must(::chmod((folder / name.c_str()).c_str(), 0600) == 0, "a file's mode is set");
    contents.emplace_back(AsText(content));
  }
  const auto keys = policy::LoadPairwiseKeys(folder / ".", self);
  if (!keys.ok()) {
    const std::string said = ToString(keys.status());
    // One over a size limit says so with a code of its own.
    Must(keys.status().code() != StatusCode::kInternal, "a bad key file is no fault of ours");
    for (const std::string& content : contents) Must(!Repeats(said, content), "no message repeats a key");
    return;
  }
  Must(keys->size() == contents.size(), "each file gives a key of its own");
  for (const auto& [peer, key] : *keys) {
    Must(peer != self && peer.role() == Role::kWorker, "keys are with other workers");
    // Clang 14 captures no structured binding.
    const auto same = [&key = key](const auto& other) { return other.second == key; };
    Must(std::ranges::count_if(*keys, same) == 1, "no two pairs have one key");
    Must(!(key == Secret32()), "a key is not zero");
  }
}

void ReadStatement(std::string_view text) {
  const auto json = ParseStrictJson(text, "statement");
  if (!json.ok()) return;
  const auto statement = policy::ReadLedgerStatement(*json);
  if (!statement.ok()) {
    const StatusCode code = statement.status().code();
    Must(code == StatusCode::kInvalidArgument || code == StatusCode::kDataLoss, "a bad statement is told so");
    return;
  }
  (void)policy::VerifyLedgerStatement(*statement);
  (void)policy::CheckFollows(statement->body, statement->body);
  (void)policy::StatementRows(statement->body.rows, statement->body.job);
  const auto written = policy::ToJson(*statement).dump();
  const auto read = ParseStrictJson(written, "statement");
  Must(read.ok(), "a statement is written as JSON");
  const auto again = policy::ReadLedgerStatement(*read);
  Must(again.ok() && policy::Canonical(again->body) == policy::Canonical(statement->body) &&
           again->signature == statement->signature && again->chain == statement->chain,
       "a statement that was read can be written and read");
}

void ReadAnchors(ByteView content) {
  static const Scratch folder;
  folder.Put("anchor", content);
  const auto ledgers = policy::ReadLedgerAnchor(folder / "anchor", "manuals");
  if (!ledgers.ok()) {
    const StatusCode code = ledgers.status().code();
    Must(code == StatusCode::kInvalidArgument || code == StatusCode::kDataLoss, "a bad anchor is told so");
  } else if (ledgers->has_value()) {
    Must(policy::WriteLedgerAnchor(folder / "again", **ledgers).ok(), "an anchor is written");
    Must(*ReadFile(folder / "again") == ToBytes(content), "a ledger's anchor is what was written");
  }
  const auto journals = ReadAnchor(folder / "anchor");
  if (!journals.ok() || !journals->has_value()) return;
  Must(WriteAnchor(folder / "again", **journals).ok(), "an anchor is written");
  const auto again = ReadAnchor(folder / "again");
  Must(again.ok() && *again == *journals, "an anchor comes back");
}

void ReadAddress(std::string_view text) {
  const auto address = policy::ParseHostPort(text);
  if (!address.ok()) return;
  Must(!address->host.empty() && text.find(address->host) != std::string_view::npos, "a host is of its text");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::fuzz;
  Choices c(data, size);
  switch (c.Below(4)) {
    case 0:
      ReadKeys(c);
      return 0;
    case 1:
      ReadStatement(concordat::AsText(c.Rest()));
      return 0;
    case 2:
      ReadAnchors(c.Rest());
      return 0;
    default:
      ReadAddress(concordat::AsText(c.Rest()));
      return 0;
  }
}
