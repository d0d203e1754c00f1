// Any bytes as what a region and a coordinator keep in lines and names: a ledger's and a receipt book's
// lines, a ledger's mark, identities, instants, hexadecimal. Each is exactly what its writer writes, or
// refused.
#include <algorithm>

#include "common/ids.h"
#include "policy/ledger.h"
#include "policy/receipts.h"
#include "tests/fuzz/choices.h"

namespace concordat::fuzz {
namespace {

void ReadLine(std::string_view line) {
  if (const auto entry = policy::ParseLedgerLine(line); entry.ok())
    Must(policy::FormatLedgerLine(*entry) == line, "a ledger's line is what FormatLedgerLine writes");
  if (const auto receipt = policy::ParseReceiptLine(line); receipt.ok())
    Must(policy::FormatReceiptLine(*receipt) == line, "a receipt is what FormatReceiptLine writes");
  if (const auto id = SpiffeId::Parse(line); id.ok())
    Must(id->ToString() == line, "an identity has one text");
  if (const auto instant = ParseInstant(line); instant.ok())
    Must(FormatInstant(*instant) == line, "an instant has one text");
  if (const auto bytes = FromHex(line); bytes.ok())
    Must(FromHex(ToHex(*bytes)).value() == *bytes, "hexadecimal comes back");
}

void ReadMark(ByteView bytes) {
  CanonicalReader in(bytes);
  const auto mark = policy::ReadMark(in);
  if (!mark.ok()) return;
  CanonicalWriter out;
  policy::WriteMark(out, *mark);
  Must(std::ranges::equal(out.bytes(), bytes.first(bytes.size() - in.left())),
       "a mark is what WriteMark writes");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat::fuzz;
  ReadLine(concordat::AsText({data, size}));
  ReadMark({data, size});
  return 0;
}
