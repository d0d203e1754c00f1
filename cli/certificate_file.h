#ifndef CONCORDAT_CLI_CERTIFICATE_FILE_H_
#define CONCORDAT_CLI_CERTIFICATE_FILE_H_

#include <filesystem>
#include <string>

#include "privacy/crypto/x509.h"

namespace concordat::cli {

/// One's own certificate, as the files of nodes and operators name it.
struct CertificateFile {
  std::string chain;  // the file's text, PEM, leaf first
  crypto::Certificate leaf;
};

/// NotFound and the like as ReadTextFile; InvalidArgument when the text is no chain. Verifies nothing.
StatusOr<CertificateFile> ReadCertificateFile(const std::filesystem::path& file);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_CERTIFICATE_FILE_H_
