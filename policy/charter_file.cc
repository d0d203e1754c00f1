#include <algorithm>
#include <map>
#include <set>

#include "common/files.h"
#include "policy/charter.h"
#include "policy/node_config.h"
#include "policy/yaml_fields.h"

// The charter's file: reading, signing, writing. What it means is in charter.cc.
namespace concordat::policy {
namespace {

constexpr std::string_view kSignaturesLine = "signatures:";
constexpr std::string_view kUnlabelledRoot = "expected a root certificate in PEM";

struct Parts {
  std::string_view text;        // what is signed
  std::string_view signatures;  // from the line `signatures:` on; empty when there is none
};

/// The signed text ends before the first line that is exactly `signatures:`. The split is textual, so that a
/// member can check with any editor what it signs.
Parts SplitFile(std::string_view file) {
  size_t begin = 0;
  while (begin < file.size()) {
    const size_t newline = file.find('\n', begin);
    const size_t end = newline == std::string_view::npos ? file.size() : newline;
    if (file.substr(begin, end - begin) == kSignaturesLine)
      return {file.substr(0, begin), file.substr(begin)};
    begin = end + 1;
  }
  return {file, {}};
}

std::string ReadRoot(YamlMap& map, const std::string& jurisdiction) {
  return map.Parsed(
      "root", std::string(),
      [&](const std::string& text) -> StatusOr<std::string> {
        const auto root = crypto::Certificate::FromPem(text);
        if (!root.ok()) return InvalidArgument("{}: {}", kUnlabelledRoot, Message(root.status()));
        if (!root->is_ca() || !root->is_self_signed()) {
          return InvalidArgument("{}: this certificate is no self-signed CA", kUnlabelledRoot);
        }
        if (!jurisdiction.empty() && root->organization() != jurisdiction) {
          return InvalidArgument("expected the root of '{}', got that of '{}'", jurisdiction,
                                 root->organization().substr(0, 64));
        }
        return root->ToPem();
      },
      16384);
}

Bytes ReadPublicKey(YamlMap& map) {
  return map.Parsed("key", Bytes(), [](const std::string& text) -> StatusOr<Bytes> {
    const auto key = crypto::VerifyKey::FromPem(text);
    if (!key.ok()) {
      return InvalidArgument("expected an Ed25519 or P-256 public key in PEM: {}", Message(key.status()));
    }
    return key->spki();
  });
}

CharterCoordinator ReadCoordinator(YamlMap map) {
  CharterCoordinator out;
  out.id = map.Parsed("id", SpiffeId(), [](const std::string& text) -> StatusOr<SpiffeId> {
    ASSIGN_OR_RETURN(const SpiffeId id, SpiffeId::Parse(text));
    if (id.role() != Role::kCoordinator) {
      return InvalidArgument("expected spiffe://<jurisdiction>/coordinator/<name>");
    }
    return id;
  });
  out.root_pem = ReadRoot(map, out.id.jurisdiction());
  out.spki = ReadPublicKey(map);
  out.address = map.Parsed("address", std::string(), [](const std::string& text) -> StatusOr<std::string> {
    RETURN_IF_ERROR(ParseHostPort(text).status());
    return text;
  });
  out.tls_name = map.Text("tls_name", 253);
  return out;
}

std::string ReadBorderEnd(YamlMap& map, std::string_view key) {
  return map.Parsed(key, std::string(), [](const std::string& text) -> StatusOr<std::string> {
    if (text != "*" && !IsName(text)) return InvalidArgument("expected a jurisdiction or \"*\"");
    return text;
  });
}

CharterFlow ReadFlow(YamlMap map) {
  CharterFlow flow;
  flow.kind = map.Parsed("kind", ArtefactKind::kDelta, ParseArtefactKind);
  flow.from = ReadBorderEnd(map, "from");
  flow.to = ReadBorderEnd(map, "to");
  flow.basis = map.Parsed("legal_basis", LegalBasis::kStatute, ParseLegalBasis);
  return flow;
}

/// The curve of the sites' key agreement follows from the coordinator's key, so all have one kind.
void CheckKindsOfKeys(YamlMap& root, const Charter& charter) {
  const auto key = crypto::VerifyKey::FromSpki(charter.coordinator.spki);
  if (!key.ok()) return;  // said where it stands
  const auto check = [&](std::string_view field, const std::string& pem, const std::string& whose) {
    const auto certificate = crypto::Certificate::FromPem(pem);
    if (!certificate.ok()) return;
    const auto theirs = crypto::VerifyKey::FromSpki(certificate->spki());
    const std::string_view kind =
        theirs.ok() ? crypto::SignatureProfileName(theirs->profile()) : "another kind";
    if (theirs.ok() && theirs->profile() == key->profile()) return;
    root.Mistake(field,
                 fmt::format("the root key of '{}' is {}, the coordinator's key is {}; all keys of a charter "
                             "have one kind (region init --keys, coordinator init --keys)",
                             whose, kind, crypto::SignatureProfileName(key->profile())));
  };
  check("coordinator", charter.coordinator.root_pem, charter.coordinator.id.jurisdiction());
  for (const CharterMember& member : charter.members) check("members", member.root_pem, member.jurisdiction);
}

/// What one entry cannot see: the others.
void CheckTogether(YamlMap& root, const Charter& charter) {
  const auto key_of = [](const std::string& pem) {
    const auto root_certificate = crypto::Certificate::FromPem(pem);
    return root_certificate.ok() ? root_certificate->key_hash() : Digest{};
  };
  std::set<std::string> names;
  std::map<Digest, std::string> roots;
  for (const CharterMember& member : charter.members) {
    if (!names.insert(member.jurisdiction).second) {
      return root.Mistake("members", fmt::format("'{}' is listed twice", member.jurisdiction));
    }
    const auto [it, fresh] = roots.emplace(key_of(member.root_pem), member.jurisdiction);
    if (!fresh) {
      return root.Mistake("members",
                          fmt::format("'{}' and '{}' have the same root key; each jurisdiction has "
                                      "its own",
                                      it->second, member.jurisdiction));
    }
  }
  const CharterCoordinator& coordinator = charter.coordinator;
  CheckKindsOfKeys(root, charter);
  const auto same = roots.find(key_of(coordinator.root_pem));
  const CharterMember* home = charter.Member(coordinator.id.jurisdiction());
  if (home != nullptr && home->root_pem != coordinator.root_pem) {
    return root.Mistake("coordinator", fmt::format("its root is not that of the member '{}', whose "
                                                   "jurisdiction it names",
                                                   home->jurisdiction));
  }
  if (home == nullptr && same != roots.end()) {
    return root.Mistake("coordinator", fmt::format("it has the root key of '{}'", same->second));
  }
  if (charter.minimum_cohort > kMaxSites || charter.members.size() < kFewestMembers) return;
  for (const CharterFlow& flow : charter.flows) {
    for (const std::string& end : {flow.from, flow.to}) {
      if (end != "*" && charter.Member(end) == nullptr && end != coordinator.id.jurisdiction()) {
        return root.Mistake("flows", fmt::format("'{}' is neither a member nor the coordinator's", end));
      }
    }
  }
}

StatusOr<crypto::Signature> ReadSignatureText(const std::string& text) {
  const auto bytes = FromHex(text);
  crypto::Signature signature{};
  if (!bytes.ok() || bytes->size() != signature.size()) {
    return InvalidArgument("expected a signature in {} hexadecimal digits", 2 * signature.size());
  }
  std::copy(bytes->begin(), bytes->end(), signature.begin());
  return signature;
}

StatusOr<std::vector<CharterSignature>> ReadSignatures(const Parts& parts, std::string_view file_name) {
  std::vector<CharterSignature> out;
  if (parts.signatures.empty()) return out;
  // Blank lines in place of the signed text keep the line numbers of messages right.
  std::string text(static_cast<size_t>(std::count(parts.text.begin(), parts.text.end(), '\n')), '\n');
  text += parts.signatures;
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  std::set<std::string> seen;
  for (YamlMap& map : root.Maps("signatures", 0, kMaxSites)) {
    CharterSignature entry;
    entry.jurisdiction = ReadName(map, "jurisdiction");
    entry.signature = map.Parsed("signature", crypto::Signature{}, ReadSignatureText);
    if (!entry.jurisdiction.empty() && !seen.insert(entry.jurisdiction).second) {
      map.Mistake("jurisdiction", fmt::format("'{}' has signed twice", entry.jurisdiction));
    }
    out.push_back(std::move(entry));
  }
  RETURN_IF_ERROR(file.Finish());
  return out;
}

std::string Block(std::string_view text, std::string_view indent) {
  std::string out = "|\n";
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += fmt::format("{}{}\n", indent, text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

}  // namespace

Digest CharterHash(std::string_view signed_text) {
  return crypto::TaggedHash("concordat/v1/charter-hash", AsBytes(signed_text));
}

StatusOr<Charter> ParseCharter(std::string_view signed_text, std::string_view file_name) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(signed_text, file_name));
  YamlMap root = file.root();
  Charter charter;
  charter.name = ReadName(root, "name");
  charter.version = static_cast<uint32_t>(root.Integer("version", 1, 1'000'000));
  for (YamlMap& map : root.Maps("members", kFewestMembers, kMaxSites)) {
    CharterMember member;
    member.jurisdiction = ReadName(map, "jurisdiction");
    member.law = map.Text("law", 1024);
    member.root_pem = ReadRoot(map, member.jurisdiction);
    charter.members.push_back(std::move(member));
  }
  charter.coordinator = ReadCoordinator(root.Map("coordinator"));
  charter.minimum_cohort = static_cast<uint32_t>(root.Integer("minimum_cohort", 3, kMaxSites));
  for (YamlMap& map : root.Maps("flows", 1, 1000)) charter.flows.push_back(ReadFlow(map));
  if (file.clean()) CheckTogether(root, charter);
  RETURN_IF_ERROR(file.Finish());
  return charter;
}

StatusOr<SignedCharter> ParseSignedCharter(std::string_view file_text, std::string_view file_name) {
  const Parts parts = SplitFile(file_text);
  SignedCharter out;
  ASSIGN_OR_RETURN(out.charter, ParseCharter(parts.text, file_name));
  out.text = parts.text;
  out.hash = CharterHash(parts.text);
  ASSIGN_OR_RETURN(out.signatures, ReadSignatures(parts, file_name));
  return out;
}

StatusOr<SignedCharter> LoadSignedCharter(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 20));
  return ParseSignedCharter(text, path);
}

Status VerifyCharter(const SignedCharter& charter) {
  std::string problems;
  const auto add = [&](std::string_view jurisdiction, std::string_view what) {
    problems += fmt::format("{}{}: {}", problems.empty() ? "" : "; ", jurisdiction, what);
  };
  for (const CharterMember& member : charter.charter.members) {
    const auto it = std::find_if(charter.signatures.begin(), charter.signatures.end(),
                                 [&](const auto& s) { return s.jurisdiction == member.jurisdiction; });
    if (it == charter.signatures.end()) {
      add(member.jurisdiction, "has not signed");
      continue;
    }
    ASSIGN_OR_RETURN(const crypto::Certificate root, crypto::Certificate::FromPem(member.root_pem));
    ASSIGN_OR_RETURN(const crypto::VerifyKey key, crypto::VerifyKey::FromSpki(root.spki()));
    if (!key.Verify(SignedCharter::kDomain, charter.hash.view(), it->signature).ok()) {
      add(member.jurisdiction, "its signature is not over this text (was the text changed after signing?)");
    }
  }
  for (const CharterSignature& signature : charter.signatures) {
    if (charter.charter.Member(signature.jurisdiction) == nullptr) {
      add(signature.jurisdiction, "has signed, but is no member");
    }
  }
  if (problems.empty()) return OkStatus();
  return PermissionDenied("charter {} version {} ({}): {}. Each member signs with: concordat charter sign",
                          charter.charter.name, charter.charter.version, charter.hash.brief(), problems);
}

StatusOr<SignedCharter> LoadPinnedCharter(const std::string& path, const Digest& pinned) {
  ASSIGN_OR_RETURN(SignedCharter charter, LoadSignedCharter(path));
  if (charter.hash != pinned) {
    return PermissionDenied(
        "{}: this charter's hash is {}, this node pins {}. If the members agreed on the new text, pin its "
        "hash "
        "in the node's configuration; else restore the old file",
        path, charter.hash.hex(), pinned.hex());
  }
  const Status verified = VerifyCharter(charter);
  if (!verified.ok()) return Annotate(verified, path);
  return charter;
}

StatusOr<std::string> SignCharterFile(std::string_view file_text, std::string_view file_name,
                                      std::string_view jurisdiction, const crypto::SigningKey& root_key) {
  ASSIGN_OR_RETURN(SignedCharter charter, ParseSignedCharter(file_text, file_name));
  const CharterMember* member = charter.charter.Member(jurisdiction);
  if (member == nullptr) return PermissionDenied("{}: '{}' is no member", file_name, jurisdiction);
  ASSIGN_OR_RETURN(const crypto::Certificate root, crypto::Certificate::FromPem(member->root_pem));
  if (root.spki() != root_key.PublicSpki()) {
    return PermissionDenied("{}: this key is not the key of the root that the charter names for '{}'",
                            file_name, jurisdiction);
  }
  std::erase_if(charter.signatures, [&](const auto& s) { return s.jurisdiction == jurisdiction; });
  charter.signatures.push_back(
      {std::string(jurisdiction), root_key.Sign(SignedCharter::kDomain, charter.hash.view())});
  // A last line without its end would swallow the line that ends the signed text, and adding one would change
  // what others have signed.
  if (!charter.text.ends_with('\n')) {
    return InvalidArgument("{}: expected the last line of the charter to end with a newline", file_name);
  }
  std::string out = charter.text + std::string(kSignaturesLine) + "\n";
  for (const CharterSignature& s : charter.signatures) {
    out += fmt::format("  - jurisdiction: {}\n    signature: {}\n", s.jurisdiction, ToHex(s.signature));
  }
  return out;
}

std::string CharterText(const Charter& charter) {
  std::string out = fmt::format(
      "# The charter: who takes part, whose roots count, who coordinates, what may cross which border and "
      "why.\n"
      "# Every member signs every byte above the line `signatures:`; every node pins the hash of that text.\n"
      "name: {}\n"
      "# Goes up with every change. A changed charter needs fresh signatures of all members.\n"
      "version: {}\n"
      "# Sites in a round, at least; sites of one jurisdiction count as one.\n"
      "minimum_cohort: {}\n"
      "# Each jurisdiction has its own root; there is no common one.\n"
      "members:\n",
      charter.name, charter.version, charter.minimum_cohort);
  for (const CharterMember& member : charter.members) {
    // A block keeps whatever the text of a law contains; its last newline is not part of it.
    out += fmt::format("  - jurisdiction: {}\n    law: |-\n", member.jurisdiction);
    out += Block(member.law, "      ").substr(2);
    out += fmt::format("    root: {}", Block(member.root_pem, "      "));
  }
  const CharterCoordinator& coordinator = charter.coordinator;
  const auto key = crypto::VerifyKey::FromSpki(coordinator.spki);
  out += fmt::format(
      "# The coordinator is known by its own root and by the key that signs its messages.\n"
      "coordinator:\n  id: {}\n  address: \"{}\"\n  tls_name: \"{}\"\n  key: {}  root: {}",
      coordinator.id.ToString(), coordinator.address, coordinator.tls_name,
      Block(key.ok() ? key->ToPem() : "", "    "), Block(coordinator.root_pem, "    "));
  out +=
      "# What may cross, from where to where (\"*\": anywhere), on what basis: adequacy, scc, consent, "
      "statute.\n"
      "flows:\n";
  for (const CharterFlow& flow : charter.flows) {
    out += fmt::format("  - {{kind: {}, from: \"{}\", to: \"{}\", legal_basis: {}}}\n",
                       ArtefactKindName(flow.kind), flow.from, flow.to, LegalBasisName(flow.basis));
  }
  return out;
}

}  // namespace concordat::policy
