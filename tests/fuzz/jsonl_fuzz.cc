// Any bytes as a JSONL dataset. Read from a memfd, since datasets are files.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "tests/fuzz/scratch.h"
#include "worker/model/dataset.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace concordat;
  using namespace concordat::model;
  static const fuzz::Scratch folder;
  const std::string link = folder / "d.jsonl";
  const int fd = memfd_create("jsonl", 0);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  (void)unlink(link.c_str());
  if (symlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), link.c_str()) != 0) std::abort();
  DatasetLimits limits;
  limits.max_line_bytes = 4096;
  for (const char* person_field : {"", "id"}) {
    auto dataset = ReadDataset(link, limits, person_field);
    if (!dataset.ok()) continue;
    const size_t count = dataset->documents.size();
    const auto split = SplitDataset(*std::move(dataset), Secret32(), 100);
    if (!split.ok() || split->train.size() + split->held_out.size() != count) std::abort();
    std::set<Digest> train;
    const bool named = *person_field != '\0';
    for (const Document& d : split->train) train.insert(d.person);
    for (const auto* side : {&split->train, &split->held_out}) {
      for (const Document& d : *side) {
        if (!d.person_id.empty() || d.person.is_zero() == named) std::abort();
        if (named && side == &split->held_out && train.contains(d.person)) std::abort();
      }
    }
  }
  (void)unlink(link.c_str());
  close(fd);
  return 0;
}
