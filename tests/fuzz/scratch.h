#ifndef CONCORDAT_TESTS_FUZZ_SCRATCH_H_
#define CONCORDAT_TESTS_FUZZ_SCRATCH_H_

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/fuzz/choices.h"

namespace concordat::fuzz {

/// A folder in memory, where there is one, for decoders that read files. It goes with the process's fuzzer,
/// not with a crash.
class Scratch {
 public:
  Scratch() {
    for (const char* root : {"/dev/shm", "/tmp"}) {
      std::string pattern = std::string(root) + "/concordat-fuzz-XXXXXX";
      if (::mkdtemp(pattern.data()) == nullptr) continue;
      path_ = pattern;
      return;
    }
    Must(false, "there is a place for files");
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  /// Replaces a file, without making it durable.
  void Put(const char* name, ByteView content) const {
    std::ofstream out(path_ / name, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    out.close();
    Must(out.good(), "a file is written");
  }

 private:
  std::filesystem::path path_;
};

}  // namespace concordat::fuzz

#endif  // CONCORDAT_TESTS_FUZZ_SCRATCH_H_
