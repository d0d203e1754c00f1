#include "policy/charter.h"

#include <gtest/gtest.h>

#include "policy/peer_verifier.h"
#include "policy/signed_job.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

TEST(CharterTest, TextReadsBackAsTheSameCharter) {
  World world;
  const std::string text = CharterText(world.charter);
  ASSERT_OK_AND_ASSIGN(const Charter read, ParseCharter(text, "charter.yaml"));
  EXPECT_EQ(CharterText(read), text);
  EXPECT_EQ(read.coordinator.spki, world.charter.coordinator.spki);
  EXPECT_EQ(read.members[1].root_pem, world.charter.members[1].root_pem);
  EXPECT_EQ(read.flows.size(), 4u);
}

TEST(CharterTest, VerifiesOnceAllMembersHaveSigned) {
  World world;
  std::string text = CharterText(world.charter);
  const Digest hash = CharterHash(text);
  for (const char* name : {"fr.example", "de.example"}) {
    ASSERT_OK_AND_ASSIGN(text, SignCharterFile(text, "c", name, world.roots.at(name)));
  }
  ASSERT_OK_AND_ASSIGN(SignedCharter half, ParseSignedCharter(text, "c"));
  EXPECT_THAT(VerifyCharter(half), HasStatus(StatusCode::kPermissionDenied, "es.example: has not signed"));
  ASSERT_OK_AND_ASSIGN(text, SignCharterFile(text, "c", "es.example", world.roots.at("es.example")));
  ASSERT_OK_AND_ASSIGN(SignedCharter whole, ParseSignedCharter(text, "c"));
  EXPECT_OK(VerifyCharter(whole));
  EXPECT_EQ(whole.hash, hash) << "signing must not change what is signed";
}

TEST(CharterTest, SigningTwiceReplacesTheSignature) {
  World world;
  std::string text = world.SignedFile();
  ASSERT_OK_AND_ASSIGN(const std::string again,
                       SignCharterFile(text, "c", "de.example", world.roots.at("de.example")));
  ASSERT_OK_AND_ASSIGN(const SignedCharter charter, ParseSignedCharter(again, "c"));
  EXPECT_EQ(charter.signatures.size(), 3u);
  EXPECT_OK(VerifyCharter(charter));
}

TEST(CharterTest, AnyChangeAfterSigningIsSeenByEveryMember) {
  World world;
  const std::string text = world.SignedFile();
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"version: 1", "version: 2"},
                                                        {"law of de.example", "law of de.example "},
                                                        {"# The charter", "#  The charter"}}) {
    ASSERT_OK_AND_ASSIGN(const SignedCharter charter, ParseSignedCharter(With(text, from, to), "c"));
    const Status status = VerifyCharter(charter);
    for (const char* name : {"de.example", "es.example", "fr.example"}) {
      EXPECT_THAT(status,
                  HasStatus(StatusCode::kPermissionDenied, std::string(name) + ": its signature is not"));
    }
  }
}

TEST(CharterTest, ASignatureUnderAnotherMembersNameIsRefused) {
  World world;
  EXPECT_THAT(SignCharterFile(CharterText(world.charter), "c", "de.example", world.roots.at("fr.example")),
              HasStatus(StatusCode::kPermissionDenied, "not the key of the root"));
  const std::string text = world.SignedFile();
  std::string swapped =
      With(text, "  - jurisdiction: de.example\n    signature", "  - jurisdiction: xx\n    signature");
  ASSERT_OK_AND_ASSIGN(const SignedCharter charter, ParseSignedCharter(swapped, "c"));
  EXPECT_THAT(VerifyCharter(charter),
              HasStatus(StatusCode::kPermissionDenied, "xx: has signed, but is no member"));
  EXPECT_THAT(VerifyCharter(charter), HasStatus(StatusCode::kPermissionDenied, "de.example: has not signed"));
}

TEST(CharterTest, PinRefusesAnotherCharterNamingBothHashes) {
  World world;
  const testing::TempDir dir;
  const std::string path = (dir / "charter.yaml").string();
  ASSERT_OK(WriteFileAtomically(path, world.SignedFile()));
  ASSERT_OK_AND_ASSIGN(const SignedCharter charter, LoadSignedCharter(path));
  EXPECT_OK(LoadPinnedCharter(path, charter.hash));
  Digest other = charter.hash;
  other.bytes[0] ^= 1;
  EXPECT_THAT(LoadPinnedCharter(path, other), HasStatus(StatusCode::kPermissionDenied, other.hex()));
  EXPECT_THAT(LoadPinnedCharter(path, other), HasStatus(StatusCode::kPermissionDenied, charter.hash.hex()));
  ASSERT_OK(WriteFileAtomically(path, CharterText(world.charter)));
  EXPECT_THAT(LoadPinnedCharter(path, charter.hash),
              HasStatus(StatusCode::kPermissionDenied, "has not signed"));
}

TEST(CharterTest, AllKeysHaveOneKind) {
  World world;
  const auto root_of = [&](const std::string& name) {
    return crypto::MakeRootCertificate(
               crypto::SigningKey::Generate(world.random, crypto::SignatureProfile::kP256), name, Now(),
               Now() + std::chrono::days(9), world.random)
        .value();
  };
  Charter mixed = world.charter;
  mixed.members[1].root_pem = root_of("es.example");
  EXPECT_THAT(ParseCharter(CharterText(mixed), "c"),
              HasStatus(StatusCode::kInvalidArgument, "the root key of 'es.example' is P-256"));
  mixed.coordinator.spki =
      crypto::SigningKey::Generate(world.random, crypto::SignatureProfile::kP256).PublicSpki();
  EXPECT_THAT(ParseCharter(CharterText(mixed), "c"),
              HasStatus(StatusCode::kInvalidArgument, "the root key of 'de.example' is Ed25519"));
  for (CharterMember& member : mixed.members) member.root_pem = root_of(member.jurisdiction);
  mixed.coordinator.root_pem = root_of("neutral.example");
  EXPECT_OK(ParseCharter(CharterText(mixed), "c"));
}

TEST(CheckPeerTest, APeerWithTheOtherKindOfKeyIsRefused) {
  World world;
  const auto key = crypto::SigningKey::Generate(world.random, crypto::SignatureProfile::kP256);
  EXPECT_THAT(CheckPeer(world.charter, world.Leaf(Id("spiffe://es.example/worker/w"), key), Now()),
              HasStatus(StatusCode::kPermissionDenied, "its key is P-256, the charter's are Ed25519"));
}

TEST(CharterTest, MembersMustDifferInNameAndRoot) {
  World world;
  Charter twice = world.charter;
  twice.members[1] = twice.members[0];
  EXPECT_THAT(ParseCharter(CharterText(twice), "c"),
              HasStatus(StatusCode::kInvalidArgument, "'de.example' is listed twice"));
  Charter shared = world.charter;
  shared.members[1].root_pem = crypto::MakeRootCertificate(world.roots.at("de.example"), "es.example", Now(),
                                                           Now() + std::chrono::days(9), world.random)
                                   .value();
  EXPECT_THAT(ParseCharter(CharterText(shared), "c"),
              HasStatus(StatusCode::kInvalidArgument, "have the same root key"));
  Charter coordinator = world.charter;
  coordinator.coordinator.root_pem =
      crypto::MakeRootCertificate(world.roots.at("de.example"), "neutral.example", Now(),
                                  Now() + std::chrono::days(9), world.random)
          .value();
  EXPECT_THAT(ParseCharter(CharterText(coordinator), "c"),
              HasStatus(StatusCode::kInvalidArgument, "it has the root key of 'de.example'"));
}

TEST(CharterTest, RootMustBeTheCaOfItsJurisdiction) {
  World world;
  Charter wrong = world.charter;
  wrong.members[0].root_pem = world.charter.members[1].root_pem;
  EXPECT_THAT(
      ParseCharter(CharterText(wrong), "c"),
      HasStatus(StatusCode::kInvalidArgument, "expected the root of 'de.example', got that of 'es.example'"));
  wrong.members[0].root_pem = world.Leaf(Id("spiffe://de.example/worker/w"), world.coordinator_key);
  EXPECT_THAT(ParseCharter(CharterText(wrong), "c"),
              HasStatus(StatusCode::kInvalidArgument, "no self-signed CA"));
  wrong.members[0].root_pem = "hello\n";
  EXPECT_THAT(ParseCharter(CharterText(wrong), "c"),
              HasStatus(StatusCode::kInvalidArgument, "members[0].root: expected a root certificate in PEM"));
}

TEST(CharterTest, CoordinatorInAMembersJurisdictionHasThatMembersRoot) {
  World world;
  Charter charter = world.charter;
  charter.coordinator.id = Id("spiffe://de.example/coordinator/main");
  charter.coordinator.root_pem = charter.members[0].root_pem;
  charter.flows = {{ArtefactKind::kDelta, "*", "de.example", LegalBasis::kStatute}};
  EXPECT_OK(ParseCharter(CharterText(charter), "c"));
  charter.coordinator.root_pem = crypto::MakeRootCertificate(world.coordinator_key, "de.example", Now(),
                                                             Now() + std::chrono::days(9), world.random)
                                     .value();
  EXPECT_THAT(ParseCharter(CharterText(charter), "c"),
              HasStatus(StatusCode::kInvalidArgument, "its root is not that of the member 'de.example'"));
}

TEST(CharterTest, TwoMembersAreTooFewAndStrangersHaveNoFlows) {
  World world;
  Charter two = world.charter;
  two.members.pop_back();
  EXPECT_THAT(ParseCharter(CharterText(two), "c"), HasStatus(StatusCode::kInvalidArgument, "3 to 100"));
  Charter stranger = world.charter;
  stranger.flows[0].from = "us.example";
  EXPECT_THAT(ParseCharter(CharterText(stranger), "c"),
              HasStatus(StatusCode::kInvalidArgument, "'us.example' is neither a member"));
}

TEST(CharterTest, AHiddenSecondListOfSignaturesIsRefused) {
  World world;
  const std::string text = world.SignedFile();
  EXPECT_THAT(ParseSignedCharter(text + "signatures:\n", "c"),
              HasStatus(StatusCode::kInvalidArgument, "duplicate"));
  EXPECT_THAT(ParseSignedCharter(text + "name: other\n", "c"),
              HasStatus(StatusCode::kInvalidArgument, "unknown key"));
  EXPECT_THAT(ParseSignedCharter(With(text, "name: test", "signatures: []\nname: test"), "c"),
              HasStatus(StatusCode::kInvalidArgument, "signatures: unknown key"));
}

TEST(CharterTest, MistakesInTheSignaturesHaveTheirLineInTheFile) {
  World world;
  const std::string text = world.SignedFile();
  const auto lines = std::count(text.begin(), text.end(), '\n');
  EXPECT_THAT(
      ParseSignedCharter(text + "  - jurisdiction: it.example\n    signature: 00\n", "c"),
      HasStatus(StatusCode::kInvalidArgument, fmt::format("c:{}:16: signatures[3].signature", lines + 2)));
}

TEST(CharterTest, FlowsCoverNamedAndAnyJurisdictions) {
  World world;
  Charter charter = world.charter;
  EXPECT_NE(charter.Flow(ArtefactKind::kDelta, "fr.example", "neutral.example"), nullptr);
  EXPECT_EQ(charter.Flow(ArtefactKind::kDelta, "fr.example", "de.example"), nullptr);
  EXPECT_EQ(charter.Flow(ArtefactKind::kAdapter, "fr.example", "neutral.example"), nullptr);
  EXPECT_NE(charter.Flow(ArtefactKind::kAdapter, "neutral.example", "es.example"), nullptr);
}

TEST(CheckPeerTest, KnowsWorkersAndOperatorsOfMembers) {
  World world;
  const auto key = crypto::SigningKey::Generate(world.random);
  const SpiffeId worker = Id("spiffe://de.example/worker/site");
  const CharterPeerVerifier verifier(world.charter);
  ASSERT_OK_AND_ASSIGN(const auto peer, verifier.Verify(world.Leaf(worker, key), Now()));
  EXPECT_EQ(peer.id, worker);
  EXPECT_EQ(peer.key_hash, key.Public().KeyHash());
  EXPECT_OK(CheckPeer(world.charter, world.Leaf(Id("spiffe://fr.example/operator/anne"), key), Now()));
}

TEST(CheckPeerTest, TheCoordinatorsRootMakesNoWorkers) {
  World world;
  const auto key = crypto::SigningKey::Generate(world.random);
  EXPECT_THAT(CheckPeer(world.charter, world.Leaf(Id("spiffe://neutral.example/worker/w"), key), Now()),
              HasStatus(StatusCode::kPermissionDenied, "no member"));
}

TEST(CheckPeerTest, ACoordinatorMustBeTheChartersWithTheChartersKey) {
  World world;
  const SpiffeId id = world.charter.coordinator.id;
  EXPECT_OK(CheckPeer(world.charter, world.Leaf(id, world.coordinator_key), Now()));
  const auto other = crypto::SigningKey::Generate(world.random);
  EXPECT_THAT(CheckPeer(world.charter, world.Leaf(id, other), Now()),
              HasStatus(StatusCode::kPermissionDenied, "is not the one in the charter"));
  EXPECT_THAT(
      CheckPeer(world.charter, world.Leaf(Id("spiffe://neutral.example/coordinator/b"), other), Now()),
      HasStatus(StatusCode::kPermissionDenied, "the charter's coordinator is"));
  EXPECT_THAT(CheckPeer(world.charter, world.Leaf(Id("spiffe://de.example/coordinator/main"), other), Now()),
              HasStatus(StatusCode::kPermissionDenied, "the charter's coordinator is"));
}

TEST(CheckPeerTest, ExpiredOrForeignCertificatesAreRefused) {
  World world, stranger({"de.example", "xx.example", "yy.example"});
  const auto key = crypto::SigningKey::Generate(world.random);
  const SpiffeId id = Id("spiffe://es.example/worker/w");
  EXPECT_THAT(CheckPeer(world.charter, world.Leaf(id, key), Now() + std::chrono::days(91)),
              HasStatus(StatusCode::kPermissionDenied, ""));
  EXPECT_THAT(CheckPeer(world.charter, stranger.Leaf(Id("spiffe://xx.example/worker/w"), key), Now()),
              HasStatus(StatusCode::kPermissionDenied, "xx.example"));
  // A root of the same name that is not the charter's.
  CountingRandom other;
  other.Seed();
  const auto false_root = crypto::SigningKey::Generate(other);
  const std::string false_pem =
      crypto::MakeRootCertificate(false_root, "es.example", Now() - std::chrono::hours(1),
                                  Now() + std::chrono::days(99), other)
          .value();
  crypto::CertificateProfile profile{
      id, key.PublicSpki(), {}, {}, Now() - std::chrono::hours(1), Now() + std::chrono::days(9)};
  ASSERT_OK_AND_ASSIGN(const std::string leaf, crypto::IssueLeaf(false_root, false_pem, profile, other));
  EXPECT_THAT(CheckPeer(world.charter, leaf, Now()), HasStatus(StatusCode::kPermissionDenied, ""));
}

class SignedJobTest : public ::testing::Test {
 protected:
  World world_;
  crypto::SigningKey key_ = crypto::SigningKey::Generate(world_.random);
  SpiffeId operator_ = Id("spiffe://de.example/operator/anne");
  std::string file_ = ReadExample("job.yaml");
  SignedJob job_ = SignJob(file_, key_, world_.Leaf(operator_, key_));
};

TEST_F(SignedJobTest, OpensToItsSpecSubmitterAndId) {
  ASSERT_OK_AND_ASSIGN(const VerifiedJob job, OpenJob(job_, world_.charter, Now()));
  EXPECT_EQ(job.submitter, operator_);
  EXPECT_EQ(job.id, JobIdOf(file_, operator_));
  EXPECT_EQ(job.spec.name, "smollm2-manuals");
}

TEST_F(SignedJobTest, IdDependsOnEveryByteAndTheSubmitter) {
  EXPECT_NE(JobIdOf(file_, operator_), JobIdOf(file_ + "\n", operator_));
  EXPECT_NE(JobIdOf(file_, operator_), JobIdOf(file_, Id("spiffe://de.example/operator/bob")));
}

TEST_F(SignedJobTest, RefusesAChangedFileAWorkerAndAStranger) {
  SignedJob changed = job_;
  changed.file = With(file_, "rounds: 3", "rounds: 4");
  EXPECT_THAT(OpenJob(changed, world_.charter, Now()), HasStatus(StatusCode::kPermissionDenied, "not as"));
  const SignedJob worker = SignJob(file_, key_, world_.Leaf(Id("spiffe://de.example/worker/w"), key_));
  EXPECT_THAT(OpenJob(worker, world_.charter, Now()),
              HasStatus(StatusCode::kPermissionDenied, "expected an operator"));
  const SignedJob coordinator = SignJob(file_, world_.coordinator_key,
                                        world_.Leaf(world_.charter.coordinator.id, world_.coordinator_key));
  EXPECT_THAT(OpenJob(coordinator, world_.charter, Now()),
              HasStatus(StatusCode::kPermissionDenied, "expected an operator"));
  SignedJob swapped = job_;
  const auto other = crypto::SigningKey::Generate(world_.random);
  swapped.submitter_chain = world_.Leaf(Id("spiffe://fr.example/operator/eve"), other);
  EXPECT_THAT(OpenJob(swapped, world_.charter, Now()), HasStatus(StatusCode::kPermissionDenied, "not as"));
  SignedJob huge = SignJob(std::string(kMaxJobFileBytes + 1, '#'), key_, job_.submitter_chain);
  EXPECT_THAT(OpenJob(huge, world_.charter, Now()), HasStatus(StatusCode::kInvalidArgument, "at most"));
}

}  // namespace
}  // namespace concordat::policy
