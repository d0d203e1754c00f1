#include <openssl/x509v3.h>

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/x509.h"
#include "tests/unit/privacy/crypto/forged_certificate.h"
#include "tests/unit/privacy/crypto/test_authority.h"

namespace concordat::crypto {
namespace {

SigningKey Key(uint8_t seed) { return SigningKey::FromSeed(FilledSecret(seed)); }

// The names of one kind in the subjectAltName, as their bytes.
std::vector<std::string> AlternativeNames(const std::string& pem, int kind) {
  const Certificate cert = Good(Certificate::FromPem(pem));
  const OpenSslPtr<GENERAL_NAMES, GENERAL_NAMES_free> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert.handle(), NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> found;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type));
    if (type == kind) {
      found.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                         ASN1_STRING_length(value));
    }
  }
  return found;
}

TEST(RootCertificateTest, SaysWhatARootMustSay) {
  const Authority de("de", 1);
  const Certificate root = Good(Certificate::FromPem(de.root));
  EXPECT_TRUE(root.is_ca());
  EXPECT_TRUE(root.is_self_signed());
  EXPECT_EQ(root.organization(), "de");
  EXPECT_EQ(root.common_name(), "Concordat root");
  EXPECT_EQ(root.spki(), de.key.PublicSpki());
  EXPECT_EQ(root.key_hash(), de.key.Public().KeyHash());
  EXPECT_EQ(root.not_before(), kNow - 10 * kDay);
  EXPECT_EQ(root.not_after(), kNow + 3650 * kDay);
  EXPECT_EQ(X509_get_version(root.handle()), X509_VERSION_3);
  EXPECT_EQ(X509_get_pathlen(root.handle()), 0);
  EXPECT_EQ(X509_get_key_usage(root.handle()), uint32_t{KU_KEY_CERT_SIGN | KU_CRL_SIGN});
}

TEST(RootCertificateTest, RefusesBadNamesAndTimes) {
  CtrRandom serial(FilledSecret(1));
  for (const char* name : {"", "DE", "a b", "-de", "de/worker"}) {
    EXPECT_EQ(MakeRootCertificate(Key(1), name, kNow, kNow + kDay, serial).status().code(),
              StatusCode::kInvalidArgument)
        << name;
  }
  EXPECT_EQ(MakeRootCertificate(Key(1), "de", kNow, kNow, serial).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(MakeRootCertificate(Key(1), "de", kNow, kNow + 3000000 * kDay, serial).ok());
  EXPECT_FALSE(MakeRootCertificate(Key(1), "de", Instant(Millis(-1)), kNow, serial).ok());
}

TEST(LeafCertificateTest, SaysWhatALeafMustSay) {
  const Authority de("de", 1);
  CertificateProfile profile = de.Profile(Key(2), Role::kCoordinator);
  profile.dns_names = {"localhost", "coordinator.example.org"};
  profile.ip_addresses = {"127.0.0.1", "::1"};
  const std::string pem = de.Issue(profile);
  const Certificate leaf = Good(Certificate::FromPem(pem));
  EXPECT_EQ(Good(leaf.spiffe_id()), profile.id);
  EXPECT_FALSE(leaf.is_ca());
  EXPECT_FALSE(leaf.is_self_signed());
  EXPECT_EQ(leaf.common_name(), "site-1");
  EXPECT_EQ(leaf.spki(), profile.spki);
  EXPECT_EQ(leaf.not_before(), profile.not_before);
  EXPECT_EQ(leaf.not_after(), profile.not_after);
  EXPECT_EQ(X509_get_key_usage(leaf.handle()), uint32_t{KU_DIGITAL_SIGNATURE});
  EXPECT_EQ(X509_get_extended_key_usage(leaf.handle()), uint32_t{XKU_SSL_CLIENT | XKU_SSL_SERVER});
  EXPECT_EQ(AlternativeNames(pem, GEN_URI), std::vector<std::string>{"spiffe://de/coordinator/site-1"});
  EXPECT_EQ(AlternativeNames(pem, GEN_DNS), profile.dns_names);
  const std::vector<std::string> addresses = AlternativeNames(pem, GEN_IPADD);
  ASSERT_EQ(addresses.size(), 2u);
  EXPECT_EQ(ToHex(AsBytes(addresses[0])), "7f000001");
  EXPECT_EQ(ToHex(AsBytes(addresses[1])), "00000000000000000000000000000001");
}

TEST(LeafCertificateTest, SerialNumbersArePositiveAndComeFromTheSource) {
  const Authority de("de", 1);
  const SigningKey holder = Key(2);
  CtrRandom serial(FilledSecret(1));
  const Certificate a =
      Good(Certificate::FromPem(Good(IssueLeaf(de.key, de.root, de.Profile(holder), serial))));
  const Certificate b =
      Good(Certificate::FromPem(Good(IssueLeaf(de.key, de.root, de.Profile(holder), serial))));
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(a.handle()), X509_get0_serialNumber(b.handle())), 0);
  for (const Certificate* cert : {&a, &b}) {
    EXPECT_EQ(ASN1_STRING_type(X509_get0_serialNumber(cert->handle())), V_ASN1_INTEGER);
    EXPECT_EQ(ASN1_STRING_length(X509_get0_serialNumber(cert->handle())), 16);
  }
  EXPECT_NE(a.fingerprint(), b.fingerprint());
  EXPECT_EQ(a.key_hash(), b.key_hash());
}

TEST(LeafCertificateTest, RefusesNamesThatWouldSmuggleOthersIn) {
  const Authority de("de", 1);
  CtrRandom serial(FilledSecret(1));
  for (const char* dns :
       {"", "a,URI:spiffe://fr/worker/x", "*.example.org", "Example.org", "a..b", "a.", ".a"}) {
    CertificateProfile profile = de.Profile(Key(2));
    profile.dns_names = {dns};
    EXPECT_EQ(IssueLeaf(de.key, de.root, profile, serial).status().code(), StatusCode::kInvalidArgument)
        << dns;
  }
  for (const char* ip : {"", "localhost", "1.2.3", "1.2.3.4,DNS:x", "1.2.3.256"}) {
    CertificateProfile profile = de.Profile(Key(2));
    profile.ip_addresses = {ip};
    EXPECT_EQ(IssueLeaf(de.key, de.root, profile, serial).status().code(), StatusCode::kInvalidArgument)
        << ip;
  }
}

TEST(LeafCertificateTest, RefusesAnotherJurisdictionKeyOrRoot) {
  const Authority de("de", 1), fr("fr", 2);
  const SigningKey holder = Key(3);
  CtrRandom serial(FilledSecret(1));
  EXPECT_EQ(IssueLeaf(de.key, de.root, fr.Profile(holder), serial).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(IssueLeaf(fr.key, de.root, de.Profile(holder), serial).status().code(),
            StatusCode::kInvalidArgument);
  const std::string leaf = de.Issue(de.Profile(holder));
  EXPECT_EQ(IssueLeaf(holder, leaf, de.Profile(Key(4)), serial).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(IssueLeaf(de.key, "none", de.Profile(holder), serial).status().code(),
            StatusCode::kInvalidArgument);
  CertificateProfile no_key = de.Profile(holder);
  no_key.spki.pop_back();
  EXPECT_EQ(IssueLeaf(de.key, de.root, no_key, serial).status().code(), StatusCode::kInvalidArgument);
  CertificateProfile no_id = de.Profile(holder);
  no_id.id = SpiffeId();
  EXPECT_EQ(IssueLeaf(de.key, de.root, no_id, serial).status().code(), StatusCode::kInvalidArgument);
}

TEST(LeafCertificateTest, RefusesARootWithoutKeyIdentifierInsteadOfEnding) {
  const SigningKey key = Key(1);
  const ForgedCertificate root{
      "de", "", kNow - kDay, kNow + kDay, {{NID_basic_constraints, "critical,CA:TRUE"}}};
  CtrRandom serial(FilledSecret(1));
  EXPECT_EQ(IssueLeaf(key, root.Make(key, key.handle()), Authority("de", 1).Profile(Key(3)), serial)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

TEST(LeafCertificateTest, MayNotOutliveItsRoot) {
  const Authority de("de", 1);
  CtrRandom serial(FilledSecret(1));
  CertificateProfile late = de.Profile(Key(2));
  late.not_after = kNow + 3651 * kDay;
  EXPECT_EQ(IssueLeaf(de.key, de.root, late, serial).status().code(), StatusCode::kFailedPrecondition);
  CertificateProfile early = de.Profile(Key(2));
  early.not_before = kNow - 11 * kDay;
  EXPECT_EQ(IssueLeaf(de.key, de.root, early, serial).status().code(), StatusCode::kFailedPrecondition);
  CertificateProfile backwards = de.Profile(Key(2));
  backwards.not_after = backwards.not_before;
  EXPECT_EQ(IssueLeaf(de.key, de.root, backwards, serial).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace concordat::crypto
