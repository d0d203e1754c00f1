// What a worker reads back after a restart: the state of a round and its journal. The first byte says which.
// A journal's checksums are made here, since no fuzzer would guess them.
#include <algorithm>

#include "common/canonical_attempt.h"
#include "privacy/crypto/hash.h"
#include "tests/fuzz/scratch.h"
#include "worker/core/round_state.h"
#include "worker/rpc/attempt_name.h"
#include "worker/rpc/worker_journal.h"

namespace concordat::fuzz {
namespace {

constexpr std::string_view kMagic = "CNCWJNL1";

void ReadState(ByteView state) {
  CanonicalReader head(state);
  (void)head.U16();  // version and phase; then the attempt that the state says it is of
  const AttemptId id = GetAttempt(head);
  const auto round = worker::DecodeRoundState(id, state);
  if (!round.ok()) {
    Must(round.status().code() == StatusCode::kDataLoss, "a bad state is DataLoss");
    return;
  }
  const auto again = worker::EncodeRoundState(id, round->phase, round->offer.signature, round->accepted,
                                              round->snapshot.view());
  Must(std::ranges::equal(again.view(), state), "a state is what EncodeRoundState writes");
  AttemptId other = id;
  ++other.attempt;
  Must(!worker::DecodeRoundState(other, state).ok(), "a state is of its attempt only");
}

/// A journal of the input's bodies, each after its length as u16; what is left over is a torn record.
Bytes JournalOf(Choices& c) {
  CanonicalWriter out;
  out.Raw(AsBytes(kMagic));
  while (!c.done()) {
    const size_t low = c.Byte(), high = c.Byte();
    const ByteView body = c.Take(low | high << 8);
    if (body.size() != (low | high << 8)) {
      out.Raw(body);
      break;
    }
    out.Blob(body);
    const Digest check = crypto::TaggedHash("concordat/v1/worker-journal", body);
    out.Raw(check.view().first(8));
  }
  return out.Take();
}

/// The names of what is in the outbox and of sealed states.
void ReadName(std::string_view name) {
  for (const char* suffix : {"", ".sealed"}) {
    const auto id = worker::ParseAttemptFileName(name, suffix);
    if (id.ok()) Must(worker::AttemptFileName(*id, suffix) == name, "an attempt's file has one name");
  }
}

void ReadJournal(const Bytes& content) {
  static const Scratch folder;
  const auto path = folder / "journal", copy = folder / "copy";
  const auto anchor = folder / "anchor", copys_anchor = folder / "copys-anchor";
  for (const auto& old : {anchor, copy, copys_anchor}) std::filesystem::remove(old);
  folder.Put("journal", content);
  // There is no anchor: what the journal says is taken as it is.
  const auto journal = worker::WorkerJournal::Open(path, anchor, true);
  if (!journal.ok()) {
    Must(journal.status().code() == StatusCode::kDataLoss, "a bad journal is DataLoss");
    return;
  }
  auto written = worker::WorkerJournal::Open(copy, copys_anchor);
  Must(written.ok(), "a new journal opens");
  Must((*written)->Append((*journal)->records()).ok(), "what was read can be written");
  // Opening cut a torn end off; the rest is what Append writes for the records that were read.
  Must(*ReadFile(copy) == *ReadFile(path), "a journal is what Append writes");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::fuzz;
  Choices c(data, size);
  ReadName(concordat::AsText({data, size}));
  switch (c.Below(3)) {
    case 0:
      ReadState(c.Rest());
      return 0;
    case 1:
      ReadJournal(JournalOf(c));
      return 0;
    default:
      ReadJournal(concordat::ToBytes(c.Rest()));
      return 0;
  }
}
