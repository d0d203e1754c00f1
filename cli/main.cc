#include <unistd.h>

#include <iostream>

#include "cli/context.h"
#include "common/process.h"
#include "proto/tls.h"

int main(int argc, char** argv) {
  concordat::tls::RequireTls13();
  // The command reads operator keys: no core dump may hold one.
  (void)concordat::HardenProcess();
  return concordat::cli::Main(argc, argv, std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1);
}
