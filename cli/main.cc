#include <unistd.h>

#include <iostream>

#include "cli/context.h"

int main(int argc, char** argv) {
  return concordat::cli::Main(argc, argv, std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1);
}
