#include <stdlib.h>
#include <unistd.h>

#include <iostream>

#include "cli/context.h"
#include "common/process.h"
#include "proto/tls.h"

int main(int argc, char** argv) {
  // Every failed connection is told in our own words; gRPC's lines would come on top of them.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  concordat::tls::RequireTls13();
  // The command reads operator keys: no core dump may hold one.
  (void)concordat::HardenProcess();
  return concordat::cli::Main(argc, argv, std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1);
}
