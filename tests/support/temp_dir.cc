#include "tests/support/temp_dir.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace concordat::testing {

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "concordat-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path CacheFolder() {
  if (const char* folder = std::getenv("CONCORDAT_CACHE")) return folder;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home == nullptr ? "/root" : home) / ".cache" / "concordat";
}

}  // namespace concordat::testing
