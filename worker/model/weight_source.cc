#include "worker/model/weight_source.h"

#include <algorithm>

#include "privacy/crypto/hash.h"
#include "worker/model/mapped_weights.h"

namespace concordat::model {
namespace {

StatusOr<std::vector<std::string>> HashedNames(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == "config.json" || name == "tokenizer.json" || name.ends_with(".safetensors"))
      names.push_back(name);
  }
  if (error) return ErrnoStatus(error.value(), "cannot list", folder);
  if (names.empty()) return InvalidArgument("{}: not the folder of a model", folder.string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return NotFound("{}: no such model file or folder", path.string());
  if (std::filesystem::is_directory(status)) return OpenHfWeights(path);
  if (!std::filesystem::is_regular_file(status)) {
    return InvalidArgument("{}: expected a GGUF file or a folder", path.string());
  }
  return OpenGgufWeights(path);
}

StatusOr<Digest> HashModel(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return crypto::Sha256File(path);
  ASSIGN_OR_RETURN(const std::vector<std::string> names, HashedNames(path));
  crypto::Sha256Stream stream;
  for (const std::string& name : names) {
    const uint64_t size = std::filesystem::file_size(path / name, error);
    if (error) return ErrnoStatus(error.value(), "cannot read the size of", path / name);
    ASSIGN_OR_RETURN(const Digest digest, crypto::Sha256File(path / name));
    const std::string line = fmt::format("{}{}{}{}{}\n", name, '\0', size, '\0', digest.hex());
    stream.Update(AsBytes(line));
  }
  return stream.Finish();
}

}  // namespace concordat::model
