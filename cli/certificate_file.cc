#include "cli/certificate_file.h"

#include "common/files.h"

namespace concordat::cli {

StatusOr<CertificateFile> ReadCertificateFile(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(std::string chain, ReadTextFile(file, crypto::kMaxChainBytes));
  ASSIGN_OR_RETURN(const auto pems, crypto::SplitPemChain(chain));
  ASSIGN_OR_RETURN(crypto::Certificate leaf, crypto::Certificate::FromPem(pems.front()));
  return CertificateFile{std::move(chain), std::move(leaf)};
}

}  // namespace concordat::cli
