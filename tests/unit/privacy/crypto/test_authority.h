#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_AUTHORITY_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_AUTHORITY_H_

#include <string>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/x509.h"
#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {

inline constexpr Instant kNow{std::chrono::sys_days{std::chrono::year{2026} / 11 / 22} +
                              std::chrono::hours(12)};
inline constexpr std::chrono::hours kDay{24};

/// The value of `result`; a test whose input must be good fails on a refusal.
template <typename T>
T Good(StatusOr<T> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

/// A jurisdiction with its root, valid from ten days ago to ten years ahead.
struct Authority {
  explicit Authority(std::string jurisdiction, uint8_t seed)
      : name(std::move(jurisdiction)), key(SigningKey::FromSeed(FilledSecret(seed))) {
    CtrRandom serial(FilledSecret(seed));
    root = Good(MakeRootCertificate(key, name, kNow - 10 * kDay, kNow + 3650 * kDay, serial));
  }

  CertificateProfile Profile(const SigningKey& holder, Role role = Role::kWorker) const {
    return {Good(SpiffeId::Make(name, role, "site-1")),
            holder.PublicSpki(),
            {},
            {},
            kNow - kDay,
            kNow + 90 * kDay};
  }

  std::string Issue(const CertificateProfile& profile) const {
    CtrRandom serial(FilledSecret(99));
    return Good(IssueLeaf(key, root, profile, serial));
  }

  std::string name;
  SigningKey key;
  std::string root;
};

}  // namespace concordat::crypto

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_AUTHORITY_H_
