#ifndef CONCORDAT_WORKER_MODEL_BPE_H_
#define CONCORDAT_WORKER_MODEL_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace concordat::model {

/// GPT-2's map between bytes and printable characters: the character that stands for `byte` in a vocabulary.
char32_t ByteSymbol(uint8_t byte);
/// The bytes that a byte-level token's text stands for; characters outside the map stay as they are.
std::string ByteLevelDecode(std::string_view text);
/// The text that stands for `bytes` in a byte-level vocabulary.
std::string ByteLevelEncode(std::string_view bytes);

/// Byte-pair merges (Sennrich et al. 2016) over token ids. A linked list and a heap: O(n log n) in the length
/// of a word. Any thread.
class Bpe {
 public:
  struct Merge {
    int32_t left, right, result;
  };
  /// `byte_ids`: the token of each single byte, -1 where there is none (such a byte gives `unknown`, or
  /// nothing when that is -1, as in the `tokenizers` package). `merges` in order of rank.
  Bpe(const std::array<int32_t, 256>& byte_ids, int32_t unknown, const std::vector<Merge>& merges);

  /// Appends the tokens of `word` to `out`. Of all pairs the one of lowest rank is merged first, the leftmost
  /// of equals.
  void Encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  struct Result {
    uint32_t rank;
    int32_t id;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  std::array<int32_t, 256> byte_ids_;
  int32_t unknown_;
  std::unordered_map<uint64_t, Result> merges_;
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_BPE_H_
