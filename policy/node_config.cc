#include "policy/node_config.h"

#include <charconv>

#include "common/files.h"
#include "common/ids.h"
#include "policy/yaml_fields.h"

namespace concordat::policy {
namespace {

using std::filesystem::path;

CharterPin ReadPin(YamlMap map, const path& folder) {
  CharterPin pin;
  pin.file = ReadPath(map, "file", folder);
  pin.hash = ReadDigest(map, "hash");
  if (map.present() && map.Has("hash") && pin.hash.is_zero()) {
    map.Mistake(
        "hash",
        "not pinned yet. Read the charter (concordat charter show CHARTER), then write its hash here: "
        "concordat charter pin CHARTER CONFIG");
  }
  return pin;
}

std::string ReadHostPort(YamlMap& map, std::string_view key) {
  return map.Parsed(key, std::string(), [](const std::string& text) -> StatusOr<std::string> {
    RETURN_IF_ERROR(ParseHostPort(text).status());
    return text;
  });
}
std::string ReadHostPortOr(YamlMap& map, std::string_view key) {
  return map.Has(key) ? ReadHostPort(map, key) : map.TextOr(key, "");
}

std::string ReadDevice(YamlMap& map) {
  return map.Parsed("device", std::string("cpu"), [](const std::string& text) -> StatusOr<std::string> {
    if (text == "cpu") return text;
    static constexpr std::string_view kCuda = "cuda:";
    uint32_t index = 0;
    const char* begin = text.data() + std::min(kCuda.size(), text.size());
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    if (!text.starts_with(kCuda) || error != std::errc() || stop != end || index > 63) {
      return InvalidArgument("expected cpu or cuda:N with N from 0 to 63");
    }
    return text;
  });
}

template <typename Config, typename Parse>
StatusOr<Config> LoadWith(const std::string& file, Parse parse) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file, 1u << 20));
  return parse(text, file, FolderOf(file));
}

}  // namespace

StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const Status bad = InvalidArgument("expected HOST:PORT or [IPv6]:PORT with a port from 1 to 65535");
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port < 1 || port > 65535) return bad;
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.size() > 253 || (!bracketed && host.find(':') != std::string_view::npos) ||
      host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:_%") !=
          std::string_view::npos) {
    return bad;
  }
  return HostPort{std::string(host), static_cast<uint16_t>(port)};
}

StatusOr<WorkerConfig> ParseWorkerConfig(std::string_view text, std::string_view file_name,
                                         const path& folder) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  WorkerConfig config;
  config.charter = ReadPin(root.Map("charter"), folder);
  config.coordinator_address = ReadHostPortOr(root, "coordinator_address");
  config.proxy = ReadHostPortOr(root, "proxy");
  config.certificate = ReadPath(root, "certificate", folder);
  config.key = ReadPath(root, "key", folder);
  config.policy = ReadPath(root, "policy", folder);
  config.dataset_card = ReadPath(root, "dataset_card", folder);
  config.base_model = ReadPath(root, "base_model", folder);
  config.device = root.Has("device") ? ReadDevice(root) : root.TextOr("device", "cpu");
  config.threads = static_cast<uint32_t>(root.IntegerOr("threads", 0, 0, 1024));
  config.state = ReadPath(root, "state", folder);
  config.scratch = ReadPathOr(root, "scratch", folder, config.state / "scratch");
  config.anchor = ReadPathOr(root, "anchor", folder, config.state.parent_path() / "anchor");
  config.seal_key = ReadPathOr(root, "seal_key", folder, config.state / "seal.key");
  config.pairwise_keys = ReadPathOr(root, "pairwise_keys", folder, {});
  config.ledger = ReadPathOr(root, "ledger", folder, config.state / "ledger.jsonl");
  config.receipts = ReadPathOr(root, "receipts", folder, config.state / "receipts.jsonl");
  config.log = ReadPathOr(root, "log", folder, {});
  config.trainer = ReadPathOr(root, "trainer", folder, {});
  config.socket = ReadPathOr(root, "socket", folder, config.state / "region.sock");
  // sun_path has 108 bytes with its end.
  if (file.clean() && config.socket.string().size() > 107) {
    root.Mistake("socket", fmt::format("expected a path of at most 107 bytes, got {}; name a shorter one",
                                       config.socket.string().size()));
  }
  RETURN_IF_ERROR(file.Finish());
  return config;
}

StatusOr<WorkerConfig> LoadWorkerConfig(const std::string& file) {
  return LoadWith<WorkerConfig>(file, ParseWorkerConfig);
}

StatusOr<CoordinatorConfig> ParseCoordinatorConfig(std::string_view text, std::string_view file_name,
                                                   const path& folder) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  CoordinatorConfig config;
  config.listen = ReadHostPort(root, "listen");
  config.state = ReadPath(root, "state", folder);
  config.charter = ReadPin(root.Map("charter"), folder);
  config.certificate = ReadPath(root, "certificate", folder);
  config.key = ReadPath(root, "key", folder);
  config.log = ReadPathOr(root, "log", folder, {});
  YamlMap limits = root.MapOr("limits");
  config.limits.max_jobs = static_cast<uint32_t>(limits.IntegerOr("max_jobs", 16, 1, 10000));
  config.limits.max_workers = static_cast<uint32_t>(limits.IntegerOr("max_workers", kMaxSites, 3, kMaxSites));
  config.limits.max_vector_elements =
      static_cast<uint64_t>(limits.IntegerOr("max_vector_elements", int64_t{1} << 28, 1, int64_t{1} << 31));
  config.limits.max_state_bytes = static_cast<uint64_t>(
      limits.IntegerOr("max_state_bytes", int64_t{1} << 36, int64_t{1} << 20, int64_t{1} << 50));
  config.limits.idle_timeout_ms =
      static_cast<uint64_t>(limits.DurationMillisOr("idle_timeout", 90'000, 1'000, 86'400'000));
  config.limits.reconnect_grace_ms =
      static_cast<uint64_t>(limits.DurationMillisOr("reconnect_grace", 15'000, 0, 3'600'000));
  RETURN_IF_ERROR(file.Finish());
  return config;
}

StatusOr<CoordinatorConfig> LoadCoordinatorConfig(const std::string& file) {
  return LoadWith<CoordinatorConfig>(file, ParseCoordinatorConfig);
}

StatusOr<OperatorConfig> ParseOperatorConfig(std::string_view text, std::string_view file_name,
                                             const path& folder) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse(text, file_name));
  YamlMap root = file.root();
  OperatorConfig config;
  config.charter = ReadPin(root.Map("charter"), folder);
  config.coordinator_address = ReadHostPortOr(root, "coordinator_address");
  config.certificate = ReadPath(root, "certificate", folder);
  config.key = ReadPath(root, "key", folder);
  RETURN_IF_ERROR(file.Finish());
  return config;
}

StatusOr<OperatorConfig> LoadOperatorConfig(const std::string& file) {
  return LoadWith<OperatorConfig>(file, ParseOperatorConfig);
}

StatusOr<std::string> PinCharterHash(std::string_view config_text, const Digest& hash) {
  // Textual, so that comments and order stay: the line `hash:` inside the mapping `charter:`.
  std::string out;
  bool in_charter = false, done = false;
  while (!config_text.empty()) {
    const size_t end = std::min(config_text.find('\n'), config_text.size() - 1);
    const std::string_view line = config_text.substr(0, end + 1);
    config_text.remove_prefix(end + 1);
    const size_t start = line.find_first_not_of(" ");
    if (start == 0 && line[0] != '#' && line[0] != '\n') in_charter = line.starts_with("charter:");
    if (in_charter && !done && start != std::string_view::npos && start > 0 &&
        line.substr(start).starts_with("hash:")) {
      out += fmt::format("{}hash: {}\n", line.substr(0, start), hash.hex());
      done = true;
    } else {
      out += line;
    }
  }
  if (!done) return InvalidArgument("expected a mapping `charter:` with a line `hash:` of its own");
  return out;
}

}  // namespace concordat::policy
