#include <gmock/gmock.h>
#include <openssl/ec.h>

#include "privacy/crypto/x509.h"
#include "tests/unit/privacy/crypto/forged_certificate.h"
#include "tests/unit/privacy/crypto/test_authority.h"

namespace concordat::crypto {
namespace {

using ::testing::HasSubstr;

class VerifyPeerChainTest : public ::testing::Test {
 protected:
  StatusOr<PeerIdentity> Verify(const std::string& chain, Instant now = kNow) {
    const RootLookup roots = [this](const std::string& jurisdiction) -> StatusOr<std::string> {
      asked_.push_back(jurisdiction);
      if (jurisdiction == "de") return de_.root;
      if (jurisdiction == "fr") return fr_.root;
      return NotFound("the charter has no jurisdiction {}", jurisdiction);
    };
    return VerifyPeerChain(chain, roots, now);
  }

  void ExpectRefused(const std::string& chain, const std::string& reason, Instant now = kNow) {
    const auto peer = Verify(chain, now);
    EXPECT_EQ(peer.status().code(), StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(Message(peer.status())), HasSubstr(reason));
  }

  ForgedCertificate GoodForgery(const std::string& uri = "spiffe://de/worker/site-1") {
    return ForgedCertificate::Leaf(de_.root, uri, kNow - kDay, kNow + kDay);
  }
  std::string Sign(const ForgedCertificate& forgery) { return forgery.Make(de_.key, holder_.handle()); }

  const Authority de_{"de", 1};
  const Authority fr_{"fr", 2};
  const SigningKey holder_ = SigningKey::FromSeed(FilledSecret(3));
  std::vector<std::string> asked_;
};

TEST_F(VerifyPeerChainTest, NamesThePeerOfAGoodChain) {
  for (Role role : {Role::kWorker, Role::kOperator, Role::kCoordinator}) {
    const CertificateProfile profile = de_.Profile(holder_, role);
    const auto peer = Verify(de_.Issue(profile));
    ASSERT_TRUE(peer.ok()) << peer.status();
    EXPECT_EQ(peer->id, profile.id);
    EXPECT_EQ(peer->spki, holder_.PublicSpki());
    EXPECT_EQ(peer->key_hash, holder_.Public().KeyHash());
    EXPECT_EQ(peer->not_after, profile.not_after);
  }
  EXPECT_EQ(asked_, (std::vector<std::string>{"de", "de", "de"}));
}

TEST_F(VerifyPeerChainTest, AcceptsARootSentAlong) {
  EXPECT_TRUE(Verify(de_.Issue(de_.Profile(holder_)) + de_.root).ok());
}

TEST_F(VerifyPeerChainTest, AcceptsTheForgeryThatHasNoFault) {
  // Otherwise the refusals below might all be for the same unknown reason.
  const auto peer = Verify(Sign(GoodForgery()));
  EXPECT_TRUE(peer.ok()) << peer.status();
}

TEST_F(VerifyPeerChainTest, RefusesAnExpiredLeaf) {
  const std::string leaf = de_.Issue(de_.Profile(holder_));
  ExpectRefused(leaf, "expired at " + FormatInstant(kNow + 90 * kDay), kNow + 91 * kDay);
  ExpectRefused(leaf, "expired at " + FormatInstant(kNow + 90 * kDay), kNow + 90 * kDay);
  EXPECT_TRUE(Verify(leaf, kNow + 90 * kDay - std::chrono::seconds(1)).ok());
}

TEST_F(VerifyPeerChainTest, RefusesALeafThatIsNotYetValid) {
  const std::string leaf = de_.Issue(de_.Profile(holder_));
  ExpectRefused(leaf, "not yet valid, only from " + FormatInstant(kNow - kDay), kNow - 2 * kDay);
  EXPECT_TRUE(Verify(leaf, kNow - kDay).ok());
}

TEST_F(VerifyPeerChainTest, RefusesAnExpiredRoot) {
  ForgedCertificate forgery = GoodForgery();
  forgery.not_after = kNow + 5000 * kDay;
  ExpectRefused(Sign(forgery), "its issuer's certificate has expired", kNow + 4000 * kDay);
}

TEST_F(VerifyPeerChainTest, RefusesAnIdentityThatAnotherJurisdictionsRootSigned) {
  const std::string stolen = GoodForgery("spiffe://fr/worker/site-1").Make(de_.key, holder_.handle());
  ExpectRefused(stolen, "claims jurisdiction fr but does not chain to the root of fr");
  ExpectRefused(stolen + de_.root, "claims jurisdiction fr but does not chain to the root of fr");
  EXPECT_EQ(asked_, (std::vector<std::string>{"fr", "fr"}));
}

TEST_F(VerifyPeerChainTest, RefusesARootThatOnlyBearsTheRightName) {
  const Authority liar("de", 77);
  const std::string leaf = liar.Issue(liar.Profile(holder_));
  ExpectRefused(leaf, "claims jurisdiction de but does not chain to the root of de");
  ExpectRefused(leaf + liar.root, "claims jurisdiction de but does not chain to the root of de");
}

TEST_F(VerifyPeerChainTest, RefusesALeafWhoseBytesWereChanged) {
  const Certificate leaf = Good(Certificate::FromPem(de_.Issue(de_.Profile(holder_))));
  unsigned char* der = nullptr;
  const int size = i2d_X509(leaf.handle(), &der);
  ASSERT_GT(size, 0);
  der[size - 1] ^= 1;  // the last byte of the signature
  const Bytes changed(der, der + size);
  OPENSSL_free(der);
  ExpectRefused(Good(Certificate::FromDer(changed)).ToPem(), "does not chain to the root of de");
}

TEST_F(VerifyPeerChainTest, RefusesAnUnknownJurisdiction) {
  const Authority it("it", 9);
  ExpectRefused(it.Issue(it.Profile(holder_)), "no root for jurisdiction it");
}

TEST_F(VerifyPeerChainTest, RefusesASelfSignedLeaf) {
  ForgedCertificate forgery = GoodForgery().With(NID_authority_key_identifier, "");
  forgery.issuer_pem = "";
  ExpectRefused(forgery.Make(holder_, holder_.handle()), "self-signed");
}

TEST_F(VerifyPeerChainTest, RefusesALeafWithoutSpiffeId) {
  ExpectRefused(Sign(GoodForgery().With(NID_subject_alt_name, "")), "no SPIFFE ID");
  ExpectRefused(Sign(GoodForgery().With(NID_subject_alt_name, "DNS:localhost")), "no SPIFFE ID");
  EXPECT_TRUE(asked_.empty());
}

TEST_F(VerifyPeerChainTest, RefusesTwoUris) {
  ExpectRefused(
      Sign(GoodForgery().With(NID_subject_alt_name, "URI:spiffe://de/worker/a,URI:spiffe://de/worker/b")),
      "has 2 URIs");
  ExpectRefused(Sign(GoodForgery().With(NID_subject_alt_name, "URI:spiffe://de/worker/a,URI:https://x")),
                "has 2 URIs");
}

TEST_F(VerifyPeerChainTest, RefusesAUriThatIsNoIdentity) {
  for (const char* uri : {"https://de/worker/a", "spiffe://de/admin/a", "spiffe://de/worker",
                          "spiffe://DE/worker/a", "spiffe://de/worker/a/b", "spiffe://de/worker/a?x"}) {
    ExpectRefused(Sign(GoodForgery(uri)), "is no identity here");
  }
}

TEST_F(VerifyPeerChainTest, RefusesACaAsLeaf) {
  const ForgedCertificate ca = GoodForgery()
                                   .With(NID_basic_constraints, "critical,CA:TRUE")
                                   .With(NID_key_usage, "critical,digitalSignature,keyCertSign");
  ExpectRefused(Sign(ca), "a CA certificate used as leaf");
  ExpectRefused(de_.root, "no SPIFFE ID");
}

TEST_F(VerifyPeerChainTest, RefusesALeafThatALeafSigned) {
  const std::string issuer = de_.Issue(de_.Profile(holder_));
  const SigningKey other = SigningKey::FromSeed(FilledSecret(8));
  ForgedCertificate forgery = GoodForgery("spiffe://de/coordinator/main");
  forgery.issuer_pem = issuer;
  ExpectRefused(forgery.Make(holder_, other.handle()) + issuer, "certificate of de/main");
}

TEST_F(VerifyPeerChainTest, RefusesAnIntermediateBecauseRootsHavePathLengthZero) {
  const SigningKey middle_key = SigningKey::FromSeed(FilledSecret(8));
  const ForgedCertificate middle{"middle",
                                 de_.root,
                                 kNow - kDay,
                                 kNow + kDay,
                                 {{NID_basic_constraints, "critical,CA:TRUE"},
                                  {NID_key_usage, "critical,keyCertSign"},
                                  {NID_subject_key_identifier, "hash"},
                                  {NID_authority_key_identifier, "keyid"}}};
  const std::string middle_pem = middle.Make(de_.key, middle_key.handle());
  ForgedCertificate leaf = GoodForgery();
  leaf.issuer_pem = middle_pem;
  ExpectRefused(leaf.Make(middle_key, holder_.handle()) + middle_pem, "path length constraint exceeded");
}

TEST_F(VerifyPeerChainTest, RefusesWrongUses) {
  ExpectRefused(Sign(GoodForgery().With(NID_ext_key_usage, "")), "no extended key usage");
  for (const char* use : {"clientAuth", "serverAuth", "codeSigning", "anyExtendedKeyUsage"}) {
    ExpectRefused(Sign(GoodForgery().With(NID_ext_key_usage, use)), "extended key usage");
  }
  ExpectRefused(Sign(GoodForgery().With(NID_key_usage, "")), "key usage");
  ExpectRefused(Sign(GoodForgery().With(NID_key_usage, "critical,keyAgreement")), "key usage");
}

TEST_F(VerifyPeerChainTest, RefusesAnUnknownCriticalExtension) {
  const int nid = OBJ_create("1.3.6.1.4.1.99999.1", "concordatTest", "concordat test extension");
  ASSERT_NE(nid, NID_undef);
  EXPECT_TRUE(Verify(Sign(GoodForgery().With(nid, "DER:0500"))).ok());
  ExpectRefused(Sign(GoodForgery().With(nid, "critical,DER:0500")), "unhandled critical extension");
}

TEST_F(VerifyPeerChainTest, RefusesAKeyThatIsNeitherEd25519NorP256) {
  const KeyHandle p384(EVP_EC_gen("P-384"));
  ExpectRefused(GoodForgery().Make(de_.key, p384.get()), "expected Ed25519 or P-256");
}

TEST_F(VerifyPeerChainTest, RefusesTextThatIsNoChain) {
  const std::string leaf = de_.Issue(de_.Profile(holder_));
  ExpectRefused("", "expected a PEM certificate");
  ExpectRefused("hello " + leaf, "expected \"-----BEGIN CERTIFICATE-----\"");
  ExpectRefused(leaf + "hello", "after 1 certificates");
  ExpectRefused(leaf.substr(0, leaf.size() / 2), "has no end");
  ExpectRefused(leaf + leaf + leaf + leaf + leaf, "expected at most 4");
  ExpectRefused(std::string(kMaxChainBytes + 1, ' '), "expected at most 65536 bytes");
  std::string broken = leaf;
  broken[60] = '!';
  ExpectRefused(broken, "cannot be read");
}

TEST_F(VerifyPeerChainTest, BlamesOurOwnSideForARootThatCannotBeRead) {
  const auto peer = VerifyPeerChain(
      de_.Issue(de_.Profile(holder_)), [](const std::string&) -> StatusOr<std::string> { return "no root"; },
      kNow);
  EXPECT_EQ(peer.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(peer.status())), HasSubstr("root of de"));
}

TEST(SplitPemChainTest, GivesEachCertificateByItself) {
  const Authority de("de", 1), fr("fr", 2);
  const auto chain = SplitPemChain("\n" + de.root + "\r\n" + fr.root);
  ASSERT_TRUE(chain.ok()) << chain.status();
  EXPECT_EQ(*chain, (std::vector<std::string>{de.root, fr.root}));
}

TEST(JoinPeerChainTest, HasTheLeafOnceAndFirst) {
  const Authority de("de", 1);
  const std::string leaf = de.Issue(de.Profile(SigningKey::FromSeed(FilledSecret(3))));
  const std::vector<std::string> both{leaf, de.root};
  EXPECT_EQ(Good(SplitPemChain(JoinPeerChain(leaf, de.root))), both);
  EXPECT_EQ(Good(SplitPemChain(JoinPeerChain(leaf, leaf + de.root))), both);
  EXPECT_EQ(Good(SplitPemChain(JoinPeerChain(leaf, leaf))), std::vector<std::string>{leaf});
  EXPECT_EQ(Good(SplitPemChain(JoinPeerChain(leaf, ""))), std::vector<std::string>{leaf});
  // Without a leaf nobody is there, whatever else was sent.
  EXPECT_EQ(JoinPeerChain("", leaf), "");
  EXPECT_EQ(JoinPeerChain(" \n", leaf), "");
}

TEST(CertificateTest, ReadsExactlyOne) {
  const Authority de("de", 1);
  EXPECT_EQ(Good(Certificate::FromPem(de.root)).ToPem(), de.root);
  EXPECT_FALSE(Certificate::FromPem(de.root + de.root).ok());
  EXPECT_FALSE(Certificate::FromPem("").ok());
  EXPECT_FALSE(Certificate::FromDer(ByteView()).ok());
  EXPECT_FALSE(Certificate::FromDer(Bytes(100, 0x30)).ok());
}

}  // namespace
}  // namespace concordat::crypto
