// Linked before the library into a worker that exists for one test: masks of zeros. The test that looks for a
// region's delta at the coordinator shows with it that it would find one. No shipped program has such a
// switch; tests/integration/CMakeLists.txt is the only place that builds it.
#define BestMaskKernel RealBestMaskKernel
#include "privacy/secagg/mask.cc"  // the key derivations stay as they are
#undef BestMaskKernel

namespace concordat::secagg {

MaskKernel BestMaskKernel() {
  class Nothing final : public MaskGroup {
   public:
    void Run(uint64_t, std::span<uint32_t>, int) override {}
  };
  return [](std::span<const MaskKey>) -> std::unique_ptr<MaskGroup> { return std::make_unique<Nothing>(); };
}

}  // namespace concordat::secagg
