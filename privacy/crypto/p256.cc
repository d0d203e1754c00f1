#include "privacy/crypto/p256.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/param_build.h>

#include <algorithm>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

using GroupPtr = OpenSslPtr<EC_GROUP, EC_GROUP_free>;
using PointPtr = OpenSslPtr<EC_POINT, EC_POINT_free>;
using NumberPtr = OpenSslPtr<BIGNUM, BN_clear_free>;
using BuilderPtr = OpenSslPtr<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using ParamsPtr = OpenSslPtr<OSSL_PARAM, OSSL_PARAM_free>;
using EcdsaPtr = OpenSslPtr<ECDSA_SIG, ECDSA_SIG_free>;

constexpr const char* kGroup = "P-256";
constexpr size_t kHalf = 32;
constexpr size_t kPointBytes = 1 + 2 * kHalf;  // uncompressed: 4 ‖ x ‖ y (SEC 1, section 2.3.3)

GroupPtr Group() {
  GroupPtr group(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
  Require(group != nullptr, "P-256");
  return group;
}

std::array<uint8_t, kPointBytes> Uncompressed(const EC_GROUP* group, const EC_POINT* point) {
  std::array<uint8_t, kPointBytes> out{};
  Require(EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, out.data(), out.size(), nullptr) ==
              out.size(),
          "P-256 point");
  return out;
}

/// A key of the named group from its parts; `scalar` may be null.
KeyHandle MakeKey(const std::array<uint8_t, kPointBytes>& point, const BIGNUM* scalar) {
  const BuilderPtr builder(OSSL_PARAM_BLD_new());
  Require(
      builder != nullptr &&
          OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, kGroup, 0) == 1 &&
          OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                           point.size()) == 1 &&
          (scalar == nullptr || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, scalar) == 1),
      "P-256 parameters");
  const ParamsPtr params(OSSL_PARAM_BLD_to_param(builder.get()));
  const PkeyCtxPtr ctx(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  Require(params != nullptr && ctx != nullptr && EVP_PKEY_fromdata_init(ctx.get()) == 1, "P-256");
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata(ctx.get(), &key, scalar == nullptr ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR,
                        params.get()) != 1) {
    TakeOpenSslError();
    return nullptr;
  }
  return KeyHandle(key);
}

}  // namespace

bool IsP256(const evp_pkey_st* key) {
  if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return false;
  std::array<char, 32> name{};
  size_t size = 0;
  return EVP_PKEY_get_group_name(key, name.data(), name.size(), &size) == 1 &&
         std::string_view(name.data(), size) == SN_X9_62_prime256v1;
}

KeyHandle P256FromSecret(const Secret32& secret) {
  const GroupPtr group = Group();
  const NumberPtr scalar(BN_secure_new());
  Require(scalar != nullptr && BN_bin2bn(secret.view().data(), kHalf, scalar.get()) != nullptr, "P-256");
  BN_set_flags(scalar.get(), BN_FLG_CONSTTIME);
  if (BN_is_zero(scalar.get()) || BN_cmp(scalar.get(), EC_GROUP_get0_order(group.get())) >= 0) return nullptr;
  const PointPtr point(EC_POINT_new(group.get()));
  Require(point != nullptr &&
              EC_POINT_mul(group.get(), point.get(), scalar.get(), nullptr, nullptr, nullptr) == 1,
          "P-256");
  KeyHandle key = MakeKey(Uncompressed(group.get(), point.get()), scalar.get());
  Require(key != nullptr, "P-256 key pair");
  return key;
}

KeyHandle P256FromCoordinate(const std::array<uint8_t, 32>& x) {
  const GroupPtr group = Group();
  const PointPtr point(EC_POINT_new(group.get()));
  const NumberPtr number(BN_bin2bn(x.data(), kHalf, nullptr));
  Require(point != nullptr && number != nullptr, "P-256");
  // A coordinate that is not reduced would be a second name of the same key.
  const NumberPtr prime(BN_new());
  Require(prime != nullptr && EC_GROUP_get_curve(group.get(), prime.get(), nullptr, nullptr, nullptr) == 1,
          "P-256");
  if (BN_cmp(number.get(), prime.get()) >= 0 ||
      EC_POINT_set_compressed_coordinates(group.get(), point.get(), number.get(), 0, nullptr) != 1) {
    TakeOpenSslError();
    return nullptr;
  }
  return MakeKey(Uncompressed(group.get(), point.get()), nullptr);
}

std::array<uint8_t, 32> P256CoordinateOf(const evp_pkey_st* key) {
  std::array<uint8_t, kPointBytes> point{};
  size_t size = 0;
  Require(
      EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size(), &size) == 1 &&
          size == point.size() && point[0] == POINT_CONVERSION_UNCOMPRESSED,
      "P-256 public key");
  std::array<uint8_t, 32> out{};
  std::copy_n(point.begin() + 1, kHalf, out.begin());
  return out;
}

std::optional<Signature> EcdsaToRaw(ByteView der) {
  const unsigned char* at = der.data();
  const EcdsaPtr signature(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  Signature out{};
  if (signature == nullptr || at != der.data() + der.size() ||
      BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), out.data(), kHalf) != kHalf ||
      BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), out.data() + kHalf, kHalf) != kHalf) {
    TakeOpenSslError();
    return std::nullopt;
  }
  return out;
}

Bytes EcdsaToDer(const Signature& raw) {
  const EcdsaPtr signature(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(raw.data(), kHalf, nullptr);
  BIGNUM* s = BN_bin2bn(raw.data() + kHalf, kHalf, nullptr);
  Require(signature != nullptr && r != nullptr && s != nullptr && ECDSA_SIG_set0(signature.get(), r, s) == 1,
          "ECDSA signature");
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  Require(size > 0, "ECDSA signature");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

}  // namespace concordat::crypto
