#include "common/random.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace concordat {

void OsRandom::Fill(std::span<uint8_t> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = getrandom(out.data() + done, out.size() - done, 0);
    if (n < 0) {
      if (errno == EINTR) continue;
      std::fprintf(stderr, "concordat: the operating system gives no random bytes (getrandom: errno %d)\n",
                   errno);
      std::abort();
    }
    done += static_cast<size_t>(n);
  }
}

}  // namespace concordat
