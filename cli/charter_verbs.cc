#include <CLI/CLI.hpp>
#include <memory>

#include "cli/context.h"
#include "common/clock.h"
#include "common/files.h"
#include "policy/charter.h"
#include "policy/node_config.h"
#include "privacy/crypto/x509.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

struct NewOptions {
  std::string file;
  std::string name;
  uint32_t version = 1;
  std::vector<std::string> members;  // jurisdiction=root.pem or jurisdiction=root.pem=law
  std::string coordinator;           // folder, or certificate and root
  std::string address, tls_name;
  uint32_t minimum_cohort = 3;
  std::string basis = "statute";
};

StatusOr<policy::CharterMember> MemberOf(const std::string& text) {
  const size_t first = text.find('=');
  if (first == std::string::npos) {
    return InvalidArgument("--member: expected JURISDICTION=ROOT.PEM or JURISDICTION=ROOT.PEM=LAW, got '{}'",
                           text);
  }
  const size_t second = text.find('=', first + 1);
  policy::CharterMember member;
  member.jurisdiction = text.substr(0, first);
  auto root = ReadTextFile(text.substr(first + 1, second - first - 1), 64 << 10);
  if (!root.ok()) return Annotate(root.status(), "--member");
  member.root_pem = *std::move(root);
  member.law = second == std::string::npos ? "the law of " + member.jurisdiction : text.substr(second + 1);
  return member;
}

StatusOr<policy::CharterCoordinator> CoordinatorOf(const NewOptions& options) {
  policy::CharterCoordinator coordinator;
  const std::filesystem::path folder = options.coordinator;
  ASSIGN_OR_RETURN(coordinator.root_pem, ReadTextFile(folder / "ca" / "root.pem", 64 << 10));
  ASSIGN_OR_RETURN(const std::string leaf, ReadTextFile(folder / "coordinator" / "cert.pem", 64 << 10));
  ASSIGN_OR_RETURN(const crypto::Certificate certificate, crypto::Certificate::FromPem(leaf));
  ASSIGN_OR_RETURN(coordinator.id, certificate.spiffe_id());
  coordinator.spki = certificate.spki();
  coordinator.address = options.address;
  const auto host = policy::ParseHostPort(options.address);
  if (!host.ok()) return Annotate(host.status(), "--address");
  coordinator.tls_name = options.tls_name.empty() ? host->host : options.tls_name;
  return coordinator;
}

Status RunNew(Context& context, const NewOptions& options) {
  std::error_code error;
  if (std::filesystem::exists(options.file, error))
    return AlreadyExists("{} exists; nothing was written", options.file);
  if (options.members.size() < policy::kFewestMembers)
    return InvalidArgument("--member: a charter has at least {} members, {} came", policy::kFewestMembers,
                           options.members.size());
  policy::Charter charter;
  charter.name = options.name;
  charter.version = options.version;
  for (const auto& text : options.members) {
    ASSIGN_OR_RETURN(charter.members.emplace_back(), MemberOf(text));
  }
  ASSIGN_OR_RETURN(charter.coordinator, CoordinatorOf(options));
  charter.minimum_cohort = options.minimum_cohort;
  const auto basis = policy::ParseLegalBasis(options.basis);
  if (!basis.ok()) return Annotate(basis.status(), "--legal-basis");
  const std::string& neutral = charter.coordinator.id.jurisdiction();
  for (auto kind :
       {policy::ArtefactKind::kDelta, policy::ArtefactKind::kMetrics, policy::ArtefactKind::kEvaluation}) {
    charter.flows.push_back({kind, "*", neutral, *basis});
  }
  charter.flows.push_back({policy::ArtefactKind::kAdapter, neutral, "*", *basis});
  const std::string text = policy::CharterText(charter);
  ASSIGN_OR_RETURN([[maybe_unused]] const policy::Charter checked,
                   policy::ParseCharter(text, "the new charter, which was not written"));
  RETURN_IF_ERROR(WriteFileAtomically(options.file, text));
  const Digest hash = policy::CharterHash(text);
  context.output.Say(
      fmt::format("wrote {} ({} members, not signed yet)", options.file, charter.members.size()));
  context.output.Say("  hash " + hash.hex());
  context.output.Say("  next: each member reads it and runs: concordat charter sign " + options.file +
                     " --region FOLDER");
  context.output.Json({{"file", options.file}, {"charter", hash.hex()}, {"members", charter.members.size()}});
  return OkStatus();
}

struct SignOptions {
  std::string file, region;
};

Status RunSign(Context& context, const SignOptions& options) {
  const std::filesystem::path folder = options.region;
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.file, 1 << 20));
  ASSIGN_OR_RETURN(const Bytes pem, ReadFile(folder / "ca" / "root.key", 64 << 10));
  ASSIGN_OR_RETURN(const crypto::SigningKey key, crypto::SigningKey::FromPem(pem));
  ASSIGN_OR_RETURN(const std::string root, ReadTextFile(folder / "ca" / "root.pem", 64 << 10));
  ASSIGN_OR_RETURN(const policy::SignedCharter before, policy::ParseSignedCharter(text, options.file));
  for (const auto& member : before.charter.members) {
    ASSIGN_OR_RETURN(const crypto::Certificate theirs, crypto::Certificate::FromPem(member.root_pem));
    ASSIGN_OR_RETURN(const crypto::Certificate ours, crypto::Certificate::FromPem(root));
    if (theirs.key_hash() != ours.key_hash()) continue;
    ASSIGN_OR_RETURN(const std::string signed_text,
                     policy::SignCharterFile(text, options.file, member.jurisdiction, key));
    RETURN_IF_ERROR(WriteFileAtomically(options.file, signed_text));
    context.output.Say(fmt::format("{} signed charter {}", member.jurisdiction, before.hash.brief()));
    context.output.Json({{"charter", before.hash.hex()}, {"signed_by", member.jurisdiction}});
    return OkStatus();
  }
  return PermissionDenied("{}: no member of this charter has the root of {}", options.file, options.region);
}

Status RunVerify(Context& context, const std::string& file) {
  ASSIGN_OR_RETURN(const policy::SignedCharter charter, policy::LoadSignedCharter(file));
  RETURN_IF_ERROR(policy::VerifyCharter(charter));
  context.output.Say(fmt::format("charter {} version {}: signed by all {} members", charter.charter.name,
                                 charter.charter.version, charter.charter.members.size()));
  context.output.Say("  hash " + charter.hash.hex());
  context.output.Json(
      {{"charter", charter.hash.hex()}, {"verified", true}, {"version", charter.charter.version}});
  return OkStatus();
}

/// SHA-256 of a certificate as `openssl x509 -fingerprint -sha256` prints it, without colons: what members
/// read to each other before they sign.
std::string FingerprintOf(const std::string& pem) {
  const auto certificate = crypto::Certificate::FromPem(pem);
  return certificate.ok() ? certificate->fingerprint().hex() : "";
}

ordered_json CharterJson(const policy::SignedCharter& signed_charter) {
  const policy::Charter& charter = signed_charter.charter;
  ordered_json members = ordered_json::array(), flows = ordered_json::array(),
               signatures = ordered_json::array();
  for (const auto& member : charter.members) {
    members.push_back({{"jurisdiction", member.jurisdiction},
                       {"law", member.law},
                       {"root_sha256", FingerprintOf(member.root_pem)}});
  }
  for (const auto& flow : charter.flows) {
    flows.push_back({{"kind", policy::ArtefactKindName(flow.kind)},
                     {"from", flow.from},
                     {"to", flow.to},
                     {"legal_basis", policy::LegalBasisName(flow.basis)}});
  }
  for (const auto& signature : signed_charter.signatures) signatures.push_back(signature.jurisdiction);
  return {{"charter", signed_charter.hash.hex()},
          {"name", charter.name},
          {"version", charter.version},
          {"minimum_cohort", charter.minimum_cohort},
          {"members", members},
          {"coordinator",
           {{"id", charter.coordinator.id.ToString()},
            {"address", charter.coordinator.address},
            {"key_sha256", charter.coordinator.key_hash().hex()},
            {"root_sha256", FingerprintOf(charter.coordinator.root_pem)}}},
          {"flows", flows},
          {"signed_by", signatures}};
}

Status RunShow(Context& context, const std::string& file) {
  ASSIGN_OR_RETURN(const policy::SignedCharter signed_charter, policy::LoadSignedCharter(file));
  const policy::Charter& charter = signed_charter.charter;
  Output& out = context.output;
  out.Json(CharterJson(signed_charter));
  out.Say(
      fmt::format("{} version {}, minimum cohort {}", charter.name, charter.version, charter.minimum_cohort));
  out.Say("hash         " + signed_charter.hash.hex());
  out.Say(
      fmt::format("coordinator  {} at {}", charter.coordinator.id.ToString(), charter.coordinator.address));
  out.Say("");
  std::vector<std::vector<std::string>> rows;
  for (const auto& member : charter.members) {
    bool has_signed = false;
    for (const auto& s : signed_charter.signatures)
      has_signed = has_signed || s.jurisdiction == member.jurisdiction;
    rows.push_back({member.jurisdiction, has_signed ? "signed" : "not yet", member.law});
  }
  out.Table({"member", "signature", "law"}, rows);
  out.Say("");
  rows.clear();
  for (const auto& member : charter.members) {
    rows.push_back({member.jurisdiction + " root", FingerprintOf(member.root_pem)});
  }
  rows.push_back({"coordinator root", FingerprintOf(charter.coordinator.root_pem)});
  rows.push_back({"coordinator key", charter.coordinator.key_hash().hex()});
  out.Table({"compare with its owner", "SHA-256"}, rows);
  out.Say("");
  rows.clear();
  for (const auto& flow : charter.flows) {
    rows.push_back({std::string(policy::ArtefactKindName(flow.kind)), flow.from + " -> " + flow.to,
                    std::string(policy::LegalBasisName(flow.basis))});
  }
  out.Table({"may cross", "border", "legal basis"}, rows);
  return OkStatus();
}

struct PinOptions {
  std::string file;
  std::vector<std::string> configs;
};

Status RunPin(Context& context, const PinOptions& options) {
  ASSIGN_OR_RETURN(const policy::SignedCharter charter, policy::LoadSignedCharter(options.file));
  RETURN_IF_ERROR(policy::VerifyCharter(charter));
  for (const auto& config : options.configs) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(config, 1 << 20));
    ASSIGN_OR_RETURN(const std::string pinned, policy::PinCharterHash(text, charter.hash));
    RETURN_IF_ERROR(WriteFileAtomically(config, pinned, 0600));
    context.output.Say(fmt::format("{} pins charter {}", config, charter.hash.brief()));
  }
  context.output.Json({{"charter", charter.hash.hex()}, {"pinned", options.configs}});
  return OkStatus();
}

}  // namespace

void AddCharterVerbs(CLI::App& app, Context& context) {
  CLI::App* charter = app.add_subcommand("charter", "the treaty: write, co-sign, verify, show, pin");
  charter->require_subcommand(1);
  {
    auto o = std::make_shared<NewOptions>();
    CLI::App* verb = charter->add_subcommand("new", "write a charter for its members to sign");
    verb->footer(
        "Example: concordat charter new charter.yaml --name manuals --member de.example=de/ca/root.pem "
        "--member fr.example=fr/ca/root.pem --member es.example=es/ca/root.pem --coordinator neutral "
        "--address coordinator.example:7443");
    verb->add_option("file", o->file, "file to write")->required();
    verb->add_option("--name", o->name, "name of the charter")->required();
    verb->add_option("--number", o->version, "number of this version, from 1")->capture_default_str();
    verb->add_option("--member", o->members, "JURISDICTION=ROOT.PEM[=LAW], once for each member")->required();
    verb->add_option("--coordinator", o->coordinator,
                     "the coordinator's folder (its ca/root.pem and coordinator/cert.pem)")
        ->required();
    verb->add_option("--address", o->address, "host:port that workers dial")->required();
    verb->add_option("--tls-name", o->tls_name, "name in its certificate (default: the host)");
    verb->add_option("--minimum-cohort", o->minimum_cohort, "smallest cohort of any job")
        ->capture_default_str();
    verb->add_option("--legal-basis", o->basis, "adequacy, scc, consent or statute")->capture_default_str();
    verb->callback([&context, o] { context.run = [&context, o] { return RunNew(context, *o); }; });
  }
  {
    auto o = std::make_shared<SignOptions>();
    CLI::App* verb = charter->add_subcommand("sign", "sign a charter as a member");
    verb->footer("Example: concordat charter sign charter.yaml --region hospital-de");
    verb->add_option("file", o->file, "the charter")->required();
    verb->add_option("--region", o->region, "the member's folder (its ca/root.key)")->required();
    verb->callback([&context, o] { context.run = [&context, o] { return RunSign(context, *o); }; });
  }
  {
    auto file = std::make_shared<std::string>();
    CLI::App* verb = charter->add_subcommand("verify", "check that every member has signed this text");
    verb->footer("Example: concordat charter verify charter.yaml");
    verb->add_option("file", *file, "the charter")->required();
    verb->callback(
        [&context, file] { context.run = [&context, file] { return RunVerify(context, *file); }; });
  }
  {
    auto file = std::make_shared<std::string>();
    CLI::App* verb = charter->add_subcommand("show", "who, with whom, what may cross and why");
    verb->footer("Example: concordat charter show charter.yaml");
    verb->add_option("file", *file, "the charter")->required();
    verb->callback([&context, file] { context.run = [&context, file] { return RunShow(context, *file); }; });
  }
  auto o = std::make_shared<PinOptions>();
  CLI::App* verb = charter->add_subcommand("pin", "write the verified charter's hash into config files");
  verb->footer(
      "Example: concordat charter pin charter.yaml hospital-de/worker.yaml hospital-de/operator.yaml");
  verb->add_option("file", o->file, "the charter")->required();
  verb->add_option("configs", o->configs, "worker, coordinator or operator files")->required();
  verb->callback([&context, o] { context.run = [&context, o] { return RunPin(context, *o); }; });
}

}  // namespace concordat::cli
