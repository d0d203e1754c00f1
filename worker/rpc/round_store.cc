#include "worker/rpc/round_store.h"

#include <unistd.h>

#include "common/canonical_attempt.h"
#include "common/files.h"
#include "privacy/crypto/aead.h"
#include "privacy/crypto/hkdf.h"
#include "worker/rpc/attempt_name.h"

namespace concordat::worker {
namespace {

constexpr std::string_view kMagic = "CNCWRND1";
constexpr std::string_view kInfo = "concordat/v1/round-seal";
constexpr size_t kSaltBytes = 32;
constexpr uint64_t kMaxBytes = 256u << 20;
constexpr std::string_view kSuffix = ".sealed";

Bytes Aad(const AttemptId& id) {
  CanonicalWriter out;
  Put(out, id);
  return out.Take();
}

StatusOr<Secret32> ReadKey(const std::filesystem::path& path) {
  RETURN_IF_ERROR(CheckPrivateFile(path));
  ASSIGN_OR_RETURN(Bytes bytes, ReadFile(path, 4096));
  auto key = Secret32::From(bytes);
  Wipe(bytes);
  if (!key.ok()) return DataLoss("{}: expected a key of 32 bytes", path.string());
  return key;
}

}  // namespace

StatusOr<std::unique_ptr<RoundStore>> RoundStore::Open(std::filesystem::path folder,
                                                       const std::filesystem::path& seal_key,
                                                       RandomSource& random) {
  RETURN_IF_ERROR(MakePrivateFolder(folder));
  std::error_code error;
  if (!std::filesystem::exists(seal_key, error))
    RETURN_IF_ERROR(WriteFileAtomically(seal_key, ByteView(random.Seed().view()), 0600));
  ASSIGN_OR_RETURN(Secret32 key, ReadKey(seal_key));
  return std::unique_ptr<RoundStore>(new RoundStore(std::move(folder), std::move(key), random));
}

std::filesystem::path RoundStore::PathOf(const AttemptId& id) const {
  return folder_ / AttemptFileName(id, kSuffix);
}

Status RoundStore::Put(const RoundSeal& seal) const {
  const Secret32 salt = random_.Seed();
  const Secret32 key = crypto::HkdfSha256(key_.view(), salt.view(), AsBytes(kInfo));
  CanonicalWriter out;
  out.Raw(AsBytes(kMagic));
  out.Raw(salt.view());
  out.Raw(crypto::Seal(key, crypto::kZeroNonce, Aad(seal.id), seal.state.view()));
  return WriteFileAtomically(PathOf(seal.id), ByteView(out.bytes()), 0600);
}

std::vector<RoundSeal> RoundStore::Load(std::vector<std::string>* broken) const {
  std::vector<RoundSeal> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(kSuffix)) continue;
    const auto id = ParseAttemptFileName(name, kSuffix);
    const auto content = ReadFile(entry.path(), kMaxBytes);
    const size_t head = kMagic.size() + kSaltBytes;
    if (!id.ok() || !content.ok() || content->size() < head ||
        AsText(*content).substr(0, kMagic.size()) != kMagic) {
      broken->push_back(name);
      continue;
    }
    const ByteView all(*content);
    const Secret32 key =
        crypto::HkdfSha256(key_.view(), all.subspan(kMagic.size(), kSaltBytes), AsBytes(kInfo));
    auto plain = crypto::Open(key, crypto::kZeroNonce, Aad(*id), all.subspan(head));
    if (!plain.ok()) {
      broken->push_back(name);
      continue;
    }
    out.push_back({*id, crypto::SecretText(*plain)});
    Wipe(*plain);
  }
  return out;
}

void RoundStore::Remove(const AttemptId& id) const { ::unlink(PathOf(id).c_str()); }

}  // namespace concordat::worker
