#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <iostream>
#include <sstream>

#include "tests/support/child_process.h"
#include "tests/support/relay/link.h"

// Runs a command behind a bad link, to try things by hand:
//
//   link_relay [MTU] -- COMMAND...
//
// COMMAND runs in a network of its own, and reaches this one as 198.18.1.1. Lines on standard input, each
// answered with the counts: "delay MS" one way, "loss SHARE", "rate BITS_PER_SECOND", "queue BYTES", "cut",
// "mend", "count".
namespace concordat::testing {
namespace {

std::string Text(const char* way, const LinkCount& count) {
  return fmt::format("{}: {} packets, {} bytes, {} lost, {} overflowed, {} cut", way, count.packets,
                     count.bytes, count.lost, count.overflowed, count.cut);
}

bool Obey(const std::string& line, Link& link, LinkShape& shape) {
  std::istringstream words(line);
  std::string verb;
  double value = 0;
  words >> verb >> value;
  if (verb == "cut") {
    link.Cut();
  } else if (verb == "mend") {
    link.Mend();
  } else if (verb == "delay" && words) {
    shape.delay = std::chrono::milliseconds(static_cast<int64_t>(value));
  } else if (verb == "loss" && words) {
    shape.loss = value;
  } else if (verb == "rate" && words) {
    shape.bits_per_second = static_cast<uint64_t>(value);
  } else if (verb == "queue" && words) {
    shape.queue_bytes = static_cast<uint64_t>(value);
  } else if (verb != "count") {
    return false;
  }
  link.Shape(shape);
  return true;
}

int Main(const std::vector<std::string>& words) {
  Link::Options options;
  size_t command = 0;
  if (words.size() > 1 && words[0] != "--") options.mtu = std::stoi(words[command++]);
  if (words.size() < command + 2 || words[command] != "--") {
    std::cerr << "link_relay [MTU] -- COMMAND...\n";
    return 2;
  }
  if (const std::string missing = Link::Missing(); !missing.empty()) {
    std::cerr << "link_relay: needs " << missing << "\n";
    return 2;
  }
  Link link(options);
  LinkShape shape;
  ChildProcess::Options child;
  child.argv.assign(words.begin() + static_cast<ptrdiff_t>(command) + 1, words.end());
  child.error_file = "/dev/stderr";
  child.network = link.far().fd();
  ChildProcess process(child);
  bool listening = true;
  while (process.running()) {
    pollfd input{listening ? STDIN_FILENO : -1, POLLIN, 0};
    if (::poll(&input, 1, 100) <= 0) continue;
    std::string line;
    listening = static_cast<bool>(std::getline(std::cin, line));
    if (!listening) continue;
    if (!Obey(line, link, shape)) std::cout << "not understood: " << line << "\n";
    std::cout << Text("up", link.Up()) << "\n" << Text("down", link.Down()) << std::endl;
  }
  return process.Wait().value_or(1);
}

}  // namespace
}  // namespace concordat::testing

int main(int argc, char** argv) {
  return concordat::testing::Main(std::vector<std::string>(argv + 1, argv + argc));
}
