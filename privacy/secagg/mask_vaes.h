#ifndef CONCORDAT_PRIVACY_SECAGG_MASK_VAES_H_
#define CONCORDAT_PRIVACY_SECAGG_MASK_VAES_H_

#include <array>
#include <cstdint>

#include "privacy/secagg/mask.h"

// The mask kernel of CPUs with VAES and AVX-512 (docs/decisions/0005-vaes-mask-kernel.md). Private to this
// folder: others say BestMaskKernel().
//
// This is the only cipher loop of our own in the project, and only this kernel uses it: AES-256 by the CPU's
// AES instructions (no address and no branch depends on a secret), for masks and nothing else. What it
// must give is what OpenSSL gives, bit by bit, and mask_test.cc compares the two.
namespace concordat::secagg {

/// The kernel, or nullptr where the CPU has no VAES, AES-NI or AVX-512 (F, BW, DQ, VBMI), where the system
/// does not save AVX-512 registers, and on other architectures.
MaskKernel VaesMaskKernel();

/// One block of AES-256 (FIPS 197), made with the kernel's own key schedule. For known-answer tests, whose
/// blocks are no counters of ours; call it only where VaesMaskKernel() is not nullptr.
std::array<uint8_t, 16> VaesEncryptBlock(const Secret32& key, const std::array<uint8_t, 16>& block);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_MASK_VAES_H_
