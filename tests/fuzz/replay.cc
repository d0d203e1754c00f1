// Runs one fuzzer's target over files without a fuzzer: a corpus is checked by every build, whatever the
// compiler.
//
//   NAME_replay FOLDER...    every file of each folder, by name; fails when a folder has none
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> FilesOf(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool RunOn(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in.bad() || content.size() != fs::file_size(file)) return false;
  // Said first and at once: when the target ends the process, this is the input.
  std::printf("%s (%zu bytes)\n", file.c_str(), content.size());
  std::fflush(stdout);
  (void)LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(content.data()), content.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const uint8_t nothing = 0;
  (void)LLVMFuzzerTestOneInput(&nothing, 0);
  for (int i = 1; i < argc; ++i) {
    const auto files = FilesOf(argv[i]);
    if (files.empty()) {
      std::fprintf(stderr, "%s: no corpus\n", argv[i]);
      return 1;
    }
    for (const fs::path& file : files) {
      if (!RunOn(file)) {
        std::fprintf(stderr, "%s: cannot be read\n", file.c_str());
        return 1;
      }
    }
  }
  return argc > 1 ? 0 : 64;
}
