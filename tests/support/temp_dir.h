#ifndef CONCORDAT_TESTS_SUPPORT_TEMP_DIR_H_
#define CONCORDAT_TESTS_SUPPORT_TEMP_DIR_H_

#include <filesystem>

namespace concordat::testing {

/// A fresh folder that goes with the object, with all it holds.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Where scripts/setup keeps what it fetched: $CONCORDAT_CACHE, or ~/.cache/concordat.
std::filesystem::path CacheFolder();

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_TEMP_DIR_H_
