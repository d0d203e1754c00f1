#ifndef CONCORDAT_TESTS_UNIT_WORKER_MODEL_REAL_MODEL_H_
#define CONCORDAT_TESTS_UNIT_WORKER_MODEL_REAL_MODEL_H_

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace concordat::model {

/// The SmolLM2-135M-Instruct file in the cache that scripts/setup fills. A test that needs it fails without
/// it.
inline std::filesystem::path RealModel() {
  const char* cache = std::getenv("CONCORDAT_CACHE");
  const char* home = std::getenv("HOME");
  const std::filesystem::path folder =
      cache != nullptr ? std::filesystem::path(cache)
                       : std::filesystem::path(home ? home : "/root") / ".cache/concordat";
  const auto path = folder / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path))
    throw std::runtime_error(path.string() + " is missing: run scripts/setup");
  return path;
}

}  // namespace concordat::model

#endif  // CONCORDAT_TESTS_UNIT_WORKER_MODEL_REAL_MODEL_H_
