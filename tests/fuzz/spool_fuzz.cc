// An upload that an earlier process had begun: any notes of parts beside any file, and true notes of parts
// whose bytes are in the file or are not any more. Each byte of the input is a choice.
//
// What is resumed is no more than what the notes say and the file holds; when the rest is sent, the file is
// the upload.
#include <algorithm>
#include <array>

#include "common/canonical.h"
#include "coordinator/journal/spool.h"
#include "tests/fuzz/scratch.h"

namespace concordat::fuzz {
namespace {

constexpr size_t kMostBytes = 2048;
constexpr size_t kMostParts = 32;
constexpr std::array<size_t, 5> kPieces{kMostBytes, 1000, 300, 48, 1};

Bytes Upload(size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(i * 131 + i / 251);
  return out;
}

/// Notes as Spool writes them: true ones of pieces of `all`, and any.
Bytes Parts(Choices& c, const Bytes& all, std::vector<bool>& noted) {
  CanonicalWriter out;
  for (size_t part = c.Below(kMostParts); part > 0; --part) {
    if (c.Below(4) == 3) {  // anything
      const ByteView any = c.Take(48);
      out.Raw(any);
      continue;
    }
    const size_t offset = c.Below(all.size() + 1);
    const size_t size = std::min(c.Below(all.size() + 1), all.size() - offset);
    const ByteView piece = ByteView(all).subspan(offset, size);
    out.U64(offset);
    out.U64(size);
    out.Put(crypto::Sha256(piece));
    std::fill_n(noted.begin() + static_cast<std::ptrdiff_t>(offset), size, true);
  }
  return out.Take();
}

/// Sends what is missing, in pieces, from the end of what is stored: as a worker does after a restart.
void SendRest(coordinator::Spool& spool, const Bytes& all, Choices& c) {
  while (spool.stored() < all.size()) {
    const size_t at = spool.stored();
    const size_t size = std::min(kPieces[c.Below(kPieces.size())], all.size() - at);
    const auto stored = spool.Append(at, ByteView(all).subspan(at, size));
    Must(stored.ok() && *stored >= at + size, "the next chunk is stored");
  }
}

void FuzzOne(Choices c) {
  static const Scratch folder;
  const Bytes all = Upload(c.Below(kMostBytes) + 1);
  std::vector<bool> noted(all.size(), false);
  Bytes file = all;
  // Notes that are not a multiple of 48 bytes shift all that follow: then nothing is promised of those.
  folder.Put("upload.parts", Parts(c, all, noted));
  for (size_t flips = c.Below(4); flips > 0; --flips) Flip(c, file);
  if (c.Below(4) == 3) file.resize(c.Below(file.size() + 1));
  folder.Put("upload", file);

  auto spool = coordinator::Spool::Resume(folder / "upload", all.size());
  Must(spool.ok(), "an upload is resumed");
  const uint64_t stored = (*spool)->stored();
  Must(stored <= all.size(), "no more is stored than there is");
  for (uint64_t i = 0; i < stored; ++i) Must(noted[i] && file[i] == all[i], "what is resumed was noted");
  SendRest(**spool, all, c);
  const auto digest = (*spool)->Complete();
  Must(digest.ok() && *digest == crypto::Sha256(all), "in the end the file is the upload");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  concordat::fuzz::FuzzOne(concordat::fuzz::Choices(data, size));
  return 0;
}
