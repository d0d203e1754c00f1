#include "worker/model/bpe.h"

#include <queue>
#include <tuple>

#include "worker/model/utf8.h"

namespace concordat::model {
namespace {

bool StandsForItself(uint32_t b) {
  return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

std::array<char32_t, 256> MakeSymbols() {
  std::array<char32_t, 256> out{};
  char32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) out[b] = StandsForItself(b) ? b : next++;
  return out;
}

const std::array<char32_t, 256>& Symbols() {
  static const std::array<char32_t, 256> symbols = MakeSymbols();
  return symbols;
}

/// Byte of each symbol below 512, -1 for characters that are none.
std::array<int, 512> MakeBytes() {
  std::array<int, 512> out;
  out.fill(-1);
  for (int b = 0; b < 256; ++b) out[Symbols()[static_cast<size_t>(b)]] = b;
  return out;
}

struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;
};

struct Candidate {
  uint32_t rank;
  int32_t position;
  int32_t result;
  bool operator>(const Candidate& o) const { return std::tie(rank, position) > std::tie(o.rank, o.position); }
};

}  // namespace

char32_t ByteSymbol(uint8_t byte) { return Symbols()[byte]; }

std::string ByteLevelEncode(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) AppendUtf8(ByteSymbol(static_cast<uint8_t>(c)), out);
  return out;
}

std::string ByteLevelDecode(std::string_view text) {
  static const std::array<int, 512> bytes = MakeBytes();
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<uint8_t>(text[i]);
    // All symbols are one or two bytes of UTF-8.
    if (c < 0x80 && bytes[c] >= 0) {
      out.push_back(static_cast<char>(bytes[c]));
    } else if (c >= 0xc2 && c < 0xc8 && i + 1 < text.size() &&
               bytes[(c & 0x1fu) << 6 | (static_cast<uint8_t>(text[i + 1]) & 0x3fu)] >= 0) {
      out.push_back(static_cast<char>(bytes[(c & 0x1fu) << 6 | (static_cast<uint8_t>(text[i + 1]) & 0x3fu)]));
      ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, int32_t unknown, const std::vector<Merge>& merges)
    : byte_ids_(byte_ids), unknown_(unknown) {
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    merges_.emplace(Key(merges[i].left, merges[i].right), Result{static_cast<uint32_t>(i), merges[i].result});
  }
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>& out) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const char c : word) {
    const int32_t known = byte_ids_[static_cast<uint8_t>(c)];
    const int32_t id = known >= 0 ? known : unknown_;
    if (id < 0) continue;
    const auto i = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, i - 1, i + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int32_t left) {
    if (left < 0 || symbols[static_cast<size_t>(left)].next < 0) return;
    const Symbol& a = symbols[static_cast<size_t>(left)];
    const auto it = merges_.find(Key(a.id, symbols[static_cast<size_t>(a.next)].id));
    if (it != merges_.end()) queue.push({it->second.rank, left, it->second.id});
  };
  for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& a = symbols[static_cast<size_t>(best.position)];
    if (a.id < 0 || a.next < 0) continue;
    Symbol& b = symbols[static_cast<size_t>(a.next)];
    // Stale when either side has been merged with something else since.
    const auto it = merges_.find(Key(a.id, b.id));
    if (it == merges_.end() || it->second.id != best.result) continue;
    a.id = best.result;
    a.next = b.next;
    b.id = -1;
    if (a.next >= 0) symbols[static_cast<size_t>(a.next)].previous = best.position;
    offer(a.previous);
    offer(best.position);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
    out.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace concordat::model
