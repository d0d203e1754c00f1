#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <string>

#include "worker/train/engine.h"

// Steps of LoRA training on one document length, for experiments/training_speed/compare.py and by hand:
//   train_bench --model M.gguf [--tokens 512] [--rank 16] [--steps 10] [--dtype bf16|f32] [--threads N]
//               [--device cpu] [--portable] [--batch 1] [--dp] [--serve]
// --batch: sequences of one optimizer step. --dp: the same steps as DP-SGD, every sequence a privacy unit.
// --serve: reads lines "N" from standard input, makes N steps for each and answers with one line of JSON, so
// that another program can take turns with it on the same machine.
namespace {

using concordat::train::Engine;
using concordat::train::EngineOptions;
using Clock = std::chrono::steady_clock;

/// Peak resident memory of this process, MiB.
double PeakMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

struct Work {
  concordat::train::Sequence sequence;
  int batch = 1;
  bool dp = false;
};

/// One optimizer step; the mean loss.
concordat::StatusOr<double> PlainStep(Engine& engine, const Work& work) {
  const std::vector<concordat::train::Sequence> batch(static_cast<size_t>(work.batch), work.sequence);
  ASSIGN_OR_RETURN(const auto step, engine.TrainStep(batch, /*update=*/true, 1e-4));
  return step.loss_sum / static_cast<double>(step.target_tokens);
}

concordat::StatusOr<double> DpStep(Engine& engine, const Work& work, uint64_t number) {
  RETURN_IF_ERROR(
      engine.DpBegin({.clip = 1, .noise_multiplier = 1, .divisor = static_cast<double>(work.batch)}));
  std::vector<concordat::train::DpRecord> batch;
  for (int i = 0; i < work.batch; ++i) batch.push_back({work.sequence, static_cast<uint64_t>(i)});
  RETURN_IF_ERROR(engine.DpAdd(batch));
  concordat::Secret32 seed;
  for (size_t i = 0; i < 8; ++i) seed.mutable_view()[i] = static_cast<uint8_t>(number >> (8 * i));
  ASSIGN_OR_RETURN(const auto step, engine.DpUpdate(seed, 1e-4));
  return step.metrics[concordat::train::DpMetric::kLossSum].value() /
         step.metrics[concordat::train::DpMetric::kTargetTokens].value();
}

/// Seconds of processor time, all threads: what a busy machine changes least.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// What one of --serve's lines, or all of --steps, asks for.
int Measure(Engine& engine, const Work& work, int steps) {
  const auto start = Clock::now();
  const double cpu_start = CpuSeconds();
  double loss = 0;
  for (int i = 0; i < steps; ++i) {
    const auto step = work.dp ? DpStep(engine, work, static_cast<uint64_t>(i)) : PlainStep(engine, work);
    if (!step.ok()) {
      fmt::print(stderr, "{}\n", concordat::ToString(step.status()));
      return 1;
    }
    loss = *step;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const double tokens = static_cast<double>(work.sequence.tokens.size()) * work.batch * steps;
  fmt::print(
      "{{\"steps\": {}, \"seconds\": {:.6f}, \"cpu_seconds\": {:.3f}, \"tokens_per_s\": {:.1f}, \"loss\": "
      "{:.4f}, \"peak_mib\": "
      "{:.0f}}}\n",
      steps, seconds, CpuSeconds() - cpu_start, tokens / seconds, loss, PeakMiB());
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> flags = {{"--tokens", "512"}, {"--rank", "16"},     {"--steps", "10"},
                                              {"--dtype", ""},     {"--threads", "0"},   {"--device", "cpu"},
                                              {"--model", ""},     {"--portable", "no"}, {"--serve", "no"},
                                              {"--batch", "1"},    {"--dp", "no"}};
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto found = flags.find(flag);
    const bool is_switch = flag == "--portable" || flag == "--serve" || flag == "--dp";
    if (found == flags.end() || (!is_switch && i + 1 == argc)) {
      fmt::print(stderr, "train_bench: unknown or incomplete flag {}\n", flag);
      return 2;
    }
    found->second = is_switch ? "yes" : argv[++i];
  }
  auto source = concordat::model::OpenWeights(flags["--model"]);
  if (!source.ok()) {
    fmt::print(stderr, "{}\n", concordat::ToString(source.status()));
    return 1;
  }
  const auto rank = static_cast<uint32_t>(std::stoul(flags["--rank"]));
  const concordat::LoraSpec lora{
      .rank = rank,
      .alpha = static_cast<double>(rank),
      .targets = {concordat::kAllLoraTargets.begin(), concordat::kAllLoraTargets.end()}};
  EngineOptions options;
  options.device = flags["--device"];
  options.threads = std::stoi(flags["--threads"]);
  options.max_tokens = static_cast<uint32_t>(std::stoul(flags["--tokens"]));
  options.portable = flags["--portable"] == "yes";
  if (flags["--dtype"] == "bf16") options.dtype = EngineOptions::Dtype::kBf16;
  if (flags["--dtype"] == "f32") options.dtype = EngineOptions::Dtype::kF32;
  auto engine = Engine::Create(**source, lora, options);
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", concordat::ToString(engine.status()));
    return 1;
  }
  const uint32_t vocab = (*source)->config().vocab;
  source->reset();  // the mapped file would count as memory of the process
  // A small adapter that is not zero: zeros would be as fast, but would hide an overflow.
  std::vector<float> adapter((*engine)->layout().adapter_elements());
  for (size_t i = 0; i < adapter.size(); ++i)
    adapter[i] = 0.01F * static_cast<float>(i * 7919 % 101) / 101.0F - 0.005F;
  std::vector<int32_t> tokens(options.max_tokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 2654435761U % vocab);
  const std::vector<uint8_t> target(tokens.size(), 1);
  const auto set = (*engine)->SetAdapter(adapter);
  const auto reset = (*engine)->ResetOptimizer({});
  if (!set.ok() || !reset.ok()) return 1;
  fmt::print(stderr, "{}\n", (*engine)->Description());
  const Work work{{tokens, target}, std::max(1, std::stoi(flags["--batch"])), flags["--dp"] == "yes"};
  if (flags["--serve"] == "no") return Measure(**engine, work, std::stoi(flags["--steps"]));
  std::string line;
  while (std::getline(std::cin, line)) {
    if (Measure(**engine, work, std::stoi(line)) != 0) return 1;
  }
  return 0;
}
