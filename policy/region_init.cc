#include "policy/region_init.h"

#include <arpa/inet.h>

#include "common/files.h"
#include "policy/node_config.h"
#include "policy/region_init_templates.h"
#include "privacy/crypto/signature.h"
#include "privacy/crypto/x509_names.h"

namespace concordat::policy {
namespace {

using std::filesystem::path;

constexpr auto kRootLifetime = std::chrono::days(3652);
constexpr auto kLeafLifetime = std::chrono::days(90);
/// Clocks of peers differ: a certificate that is valid from this very second is refused by those behind.
constexpr auto kClockSkew = std::chrono::minutes(5);

constexpr unsigned kKeyMode = 0600;
constexpr unsigned kFolderMode = 0700;

struct Authority {
  crypto::SigningKey key;
  std::string root_pem;
};

/// Holders of keys may not find theirs replaced: anything in the folder stops us.
Status PrepareFolder(const path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder, error) &&
      (!std::filesystem::is_directory(folder, error) || !std::filesystem::is_empty(folder, error))) {
    return AlreadyExists("{}: expected a folder that is empty or does not exist; nothing is overwritten",
                         folder.string());
  }
  return MakeFolder(folder, kFolderMode);
}

Status WriteKey(const path& file, const crypto::SigningKey& key) {
  return WriteFileAtomically(file, key.ToPem().view(), kKeyMode);
}

StatusOr<crypto::SigningKey> ReadKey(const path& file) {
  ASSIGN_OR_RETURN(Bytes pem, ReadFile(file, 1 << 16));
  auto key = crypto::SigningKey::FromPem(pem);
  Wipe(pem);
  if (!key.ok()) return Annotate(key.status(), file.string());
  return key;
}

StatusOr<Authority> MakeAuthority(const std::string& jurisdiction, crypto::SignatureProfile keys, Instant now,
                                  RandomSource& random) {
  Authority authority{crypto::SigningKey::Generate(random, keys), ""};
  ASSIGN_OR_RETURN(authority.root_pem,
                   crypto::MakeRootCertificate(authority.key, jurisdiction, now - kClockSkew,
                                               now + kRootLifetime, random));
  return authority;
}

Status WriteAuthority(const path& folder, const Authority& authority) {
  RETURN_IF_ERROR(MakeFolder(folder, kFolderMode));
  RETURN_IF_ERROR(WriteKey(folder / "root.key", authority.key));
  return WriteFileAtomically(folder / "root.pem", authority.root_pem);
}

StatusOr<std::string> Issue(const Authority& authority, const SpiffeId& id, const Bytes& spki,
                            const std::vector<std::string>& dns_names,
                            const std::vector<std::string>& ip_addresses, Instant now, RandomSource& random) {
  crypto::CertificateProfile profile;
  profile.id = id;
  profile.spki = spki;
  profile.dns_names = dns_names;
  profile.ip_addresses = ip_addresses;
  profile.not_before = now - kClockSkew;
  profile.not_after = now + kLeafLifetime;
  return crypto::IssueLeaf(authority.key, authority.root_pem, profile, random);
}

struct Identity {
  crypto::SigningKey key;
  std::string certificate;
};

StatusOr<Identity> MakeIdentity(const Authority& authority, const SpiffeId& id,
                                const std::vector<std::string>& dns_names,
                                const std::vector<std::string>& ip_addresses, Instant now,
                                RandomSource& random) {
  Identity identity{crypto::SigningKey::Generate(random, authority.key.profile()), ""};
  ASSIGN_OR_RETURN(identity.certificate,
                   Issue(authority, id, identity.key.PublicSpki(), dns_names, ip_addresses, now, random));
  return identity;
}

/// key.pem and cert.pem of one identity.
Status WriteIdentity(const path& folder, const Identity& identity) {
  RETURN_IF_ERROR(MakeFolder(folder, kFolderMode));
  RETURN_IF_ERROR(WriteKey(folder / "key.pem", identity.key));
  return WriteFileAtomically(folder / "cert.pem", identity.certificate);
}

Status CheckName(std::string_view flag, std::string_view name) {
  if (IsName(name)) return OkStatus();
  return InvalidArgument("{}: expected 1 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit",
                         flag);
}

Status CheckAddresses(const std::vector<std::string>& addresses) {
  for (const std::string& address : addresses) {
    in6_addr parsed{};
    if (::inet_pton(AF_INET, address.c_str(), &parsed) != 1 &&
        ::inet_pton(AF_INET6, address.c_str(), &parsed) != 1)
      return InvalidArgument("--ip: expected an IPv4 or IPv6 address, got text of {} characters",
                             address.size());
  }
  return OkStatus();
}

std::string Replace(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// An example without a pinned charter: the reader of the file refuses it and says how to pin.
StatusOr<std::string> Unpinned(std::string_view example) { return PinCharterHash(example, Digest{}); }

/// The examples are of de.example. A region begins by asking a person, and by withholding evaluations.
std::string PolicyTemplate(const std::string& jurisdiction) {
  std::string text = Replace(std::string(kRegionPolicyExample), "de.example", jurisdiction);
  text = Replace(std::move(text), "\napproval: automatic\n", "\napproval: manual\n");
  return Replace(std::move(text), "release: allow", "release: deny");
}

}  // namespace

// Everything that can be refused is made in memory first: a call that fails leaves nothing to clear away.
Status InitRegion(const path& folder, const RegionInitOptions& options, Instant now, RandomSource& random) {
  RETURN_IF_ERROR(CheckName("--jurisdiction", options.jurisdiction));
  RETURN_IF_ERROR(CheckName("--worker", options.worker_name));
  RETURN_IF_ERROR(CheckName("--operator", options.operator_name));
  ASSIGN_OR_RETURN(const SpiffeId worker_id,
                   SpiffeId::Make(options.jurisdiction, Role::kWorker, options.worker_name));
  ASSIGN_OR_RETURN(const SpiffeId person_id,
                   SpiffeId::Make(options.jurisdiction, Role::kOperator, options.operator_name));
  ASSIGN_OR_RETURN(const std::string worker_yaml, Unpinned(kWorkerExample));
  ASSIGN_OR_RETURN(const std::string operator_yaml, Unpinned(kOperatorExample));
  ASSIGN_OR_RETURN(const Authority authority, MakeAuthority(options.jurisdiction, options.keys, now, random));
  ASSIGN_OR_RETURN(const Identity worker,
                   MakeIdentity(authority, worker_id, options.dns_names, {}, now, random));
  ASSIGN_OR_RETURN(const Identity person, MakeIdentity(authority, person_id, {}, {}, now, random));
  RETURN_IF_ERROR(PrepareFolder(folder));
  RETURN_IF_ERROR(WriteAuthority(folder / "ca", authority));
  RETURN_IF_ERROR(WriteIdentity(folder / "worker", worker));
  RETURN_IF_ERROR(WriteIdentity(folder / "operator", person));
  const Secret32 split_key = random.Seed();
  RETURN_IF_ERROR(WriteFileAtomically(folder / "split.key", split_key.view(), kKeyMode));
  RETURN_IF_ERROR(WriteFileAtomically(folder / "policy.yaml", PolicyTemplate(options.jurisdiction)));
  RETURN_IF_ERROR(
      WriteFileAtomically(folder / "dataset-card.yaml",
                          Replace(std::string(kDatasetCardExample), "de.example", options.jurisdiction)));
  RETURN_IF_ERROR(WriteFileAtomically(folder / "worker.yaml", worker_yaml));
  return WriteFileAtomically(folder / "operator.yaml", operator_yaml);
}

Status InitCoordinator(const path& folder, const CoordinatorInitOptions& options, Instant now,
                       RandomSource& random) {
  RETURN_IF_ERROR(CheckName("--jurisdiction", options.jurisdiction));
  RETURN_IF_ERROR(CheckName("--name", options.name));
  ASSIGN_OR_RETURN(const SpiffeId id, SpiffeId::Make(options.jurisdiction, Role::kCoordinator, options.name));
  if (options.dns_names.empty() && options.ip_addresses.empty()) {
    return InvalidArgument("expected at least one --dns NAME or --ip ADDRESS under which workers reach it");
  }
  const auto listen = ParseHostPort(options.listen);
  if (!listen.ok()) return Annotate(listen.status(), "--listen");
  ASSIGN_OR_RETURN(std::string config, Unpinned(kCoordinatorExample));
  config = Replace(std::move(config), "listen: 0.0.0.0:7443", fmt::format("listen: \"{}\"", options.listen));
  RETURN_IF_ERROR(CheckAddresses(options.ip_addresses));
  ASSIGN_OR_RETURN(const Authority authority, MakeAuthority(options.jurisdiction, options.keys, now, random));
  const auto identity = MakeIdentity(authority, id, options.dns_names, options.ip_addresses, now, random);
  if (!identity.ok()) return Annotate(identity.status(), "--dns, --ip");
  RETURN_IF_ERROR(PrepareFolder(folder));
  RETURN_IF_ERROR(WriteAuthority(folder / "ca", authority));
  RETURN_IF_ERROR(WriteIdentity(folder / "coordinator", *identity));
  return WriteFileAtomically(folder / "coordinator.yaml", config);
}

Status RenewLeaf(const path& ca_folder, const path& key_file, const path& cert_file, Instant now,
                 RandomSource& random) {
  ASSIGN_OR_RETURN(crypto::SigningKey authority_key, ReadKey(ca_folder / "root.key"));
  ASSIGN_OR_RETURN(std::string root_pem, ReadTextFile(ca_folder / "root.pem", crypto::kMaxChainBytes));
  ASSIGN_OR_RETURN(const crypto::SigningKey holder, ReadKey(key_file));
  ASSIGN_OR_RETURN(const std::string old_pem, ReadTextFile(cert_file, crypto::kMaxChainBytes));
  ASSIGN_OR_RETURN(const auto chain, crypto::SplitPemChain(old_pem));
  ASSIGN_OR_RETURN(const crypto::Certificate old, crypto::Certificate::FromPem(chain.front()));
  if (old.spki() != holder.PublicSpki()) {
    return InvalidArgument("{} is not the key of {}", key_file.string(), cert_file.string());
  }
  ASSIGN_OR_RETURN(const SpiffeId id, old.spiffe_id());
  const Authority authority{std::move(authority_key), std::move(root_pem)};
  const crypto::AlternativeNames names = crypto::AlternativeNamesOf(old);
  ASSIGN_OR_RETURN(const std::string renewed, Issue(authority, id, holder.PublicSpki(), names.dns_names,
                                                    names.ip_addresses, now, random));
  return WriteFileAtomically(cert_file, renewed);
}

}  // namespace concordat::policy
