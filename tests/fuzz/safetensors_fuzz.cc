// Any bytes as a safetensors file; what is accepted must be written and read back as it was.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "aggregation/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat;
  const auto tensors = ReadSafetensors({data, size});
  if (!tensors.ok()) return 0;
  const auto file = WriteSafetensors(*tensors, {});
  if (!file.ok()) return 0;  // "__metadata__" is never a tensor, so this does not happen; not worth a crash
  const auto again = ReadSafetensors(*file);
  if (!again.ok() || again->size() != tensors->size()) std::abort();
  for (size_t i = 0; i < again->size(); ++i) {
    if ((*again)[i].name != (*tensors)[i].name || (*again)[i].data.size() != (*tensors)[i].data.size())
      std::abort();
  }
  return 0;
}
