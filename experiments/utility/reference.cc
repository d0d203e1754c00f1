#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>

#include "aggregation/initial_adapter.h"
#include "aggregation/peft.h"
#include "common/clock.h"
#include "common/random.h"
#include "privacy/crypto/hash.h"
#include "worker/train/trainer.h"

// What experiments/utility/run needs beside a federation: bits of each document, and training without one.
//   utility_reference --model M --documents F.jsonl [--adapter DIR]           one line of JSON a document
//   utility_reference --model M --documents F.jsonl --write DIR --rounds R ... the centralised adapter
// The second runs the trainer's own rounds (worker/train/trainer.h) on the documents of all regions together,
// one site whose delta is the step: no coordinator, no masks, no clip, no noise.
namespace {

using concordat::Status;
using concordat::train::Engine;
using concordat::train::EngineOptions;
using Flags = std::map<std::string, std::string>;

uint32_t Number(const Flags& flags, const std::string& flag) {
  return static_cast<uint32_t>(std::stoul(flags.at(flag)));
}

concordat::LoraSpec SpecOf(const Flags& flags) {
  return {.rank = Number(flags, "--rank"),
          .alpha = std::stod(flags.at("--alpha")),
          .targets = {concordat::kAllLoraTargets.begin(), concordat::kAllLoraTargets.end()},
          .method = concordat::LoraMethod::kFedIt};
}

Status Score(const Flags& flags) {
  const std::string& model = flags.at("--model");
  ASSIGN_OR_RETURN(const auto source, concordat::model::OpenWeights(model));
  ASSIGN_OR_RETURN(const auto tokenizer, concordat::model::Tokenizer::Open(model));
  ASSIGN_OR_RETURN(const auto dataset, concordat::model::ReadDataset(flags.at("--documents")));
  EngineOptions options;
  options.max_tokens = Number(flags, "--sequence-tokens");
  options.threads = static_cast<int>(Number(flags, "--threads"));
  concordat::LoraSpec spec = SpecOf(flags);
  std::vector<float> adapter;
  if (!flags.at("--adapter").empty()) {
    ASSIGN_OR_RETURN(concordat::PeftAdapter peft,
                     concordat::ReadPeftFolder(flags.at("--adapter"), source->config().shape));
    spec = peft.layout.spec();
    adapter = std::move(peft.adapter);
  }
  ASSIGN_OR_RETURN(const auto engine, Engine::Create(*source, spec, options));
  if (!adapter.empty()) RETURN_IF_ERROR(engine->SetAdapter(adapter));
  for (const concordat::model::Document& document : dataset.documents) {
    ASSIGN_OR_RETURN(const auto set,
                     concordat::model::MakeExamples(*tokenizer, nullptr, {&document, 1}, options.max_tokens));
    double nats = 0;
    for (const concordat::model::Example& example : set.examples) {
      ASSIGN_OR_RETURN(const auto result, engine->Evaluate({example.tokens, example.target}));
      nats += result.loss_sum;
    }
    const nlohmann::json line = {
        {"bits", nats / std::numbers::ln2}, {"bytes", set.bytes}, {"tokens", set.tokens}};
    std::cout << line.dump() << '\n';
  }
  return concordat::OkStatus();
}

/// The schedule of a job with `cosine`: the rate changes with the round.
double RateOf(const Flags& flags, uint32_t round) {
  const double done = round / static_cast<double>(Number(flags, "--rounds"));
  return std::stod(flags.at("--learning-rate")) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

Status Train(const Flags& flags) {
  const concordat::SystemClock clock;
  concordat::OsRandom random;
  concordat::train::Trainer trainer(clock, random);
  concordat::sandbox::Configure configure;
  configure.base_model = flags.at("--model");
  ASSIGN_OR_RETURN(configure.base_model_sha256, concordat::model::HashModel(configure.base_model));
  configure.dataset = flags.at("--documents");
  configure.device = "cpu";
  configure.threads = Number(flags, "--threads");
  ASSIGN_OR_RETURN(const concordat::sandbox::Ready ready, trainer.Open(configure));
  concordat::sandbox::Prepare prepare{ready.shape, SpecOf(flags), Number(flags, "--sequence-tokens")};
  RETURN_IF_ERROR(trainer.Prepare(prepare));
  ASSIGN_OR_RETURN(const auto layout, concordat::AdapterLayout::Make(ready.shape, prepare.adapter));
  const std::string& seed = flags.at("--seed");
  const concordat::Bytes seed_bytes(seed.begin(), seed.end());
  ASSIGN_OR_RETURN(
      std::vector<float> adapter,
      concordat::InitialAdapter(layout, concordat::crypto::TaggedHash("experiments/utility", seed_bytes)));
  uint64_t tokens = 0;
  for (uint32_t round = 0; round < Number(flags, "--rounds"); ++round) {
    const concordat::sandbox::Train task{.seed = std::stoull(seed),
                                         .round = round,
                                         .local_steps = Number(flags, "--steps"),
                                         .batch_sequences = Number(flags, "--batch"),
                                         .learning_rate = RateOf(flags, round),
                                         .beta2 = 0.95,
                                         .gradient_clip = 1.0};
    ASSIGN_OR_RETURN(const auto done, trainer.TrainRound(task, adapter, [](const auto&) {}));
    // FedIT trains every factor: the delta is in the adapter's own order.
    for (size_t i = 0; i < adapter.size(); ++i) adapter[i] += done.delta[i];
    tokens += done.summary.tokens;
  }
  std::cout << nlohmann::json{{"tokens", tokens}}.dump() << '\n';
  return concordat::WritePeftFolder(flags.at("--write"), layout, adapter, "SmolLM2-135M-Instruct");
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags = {{"--model", ""},   {"--documents", ""}, {"--adapter", ""},  {"--write", ""},
                 {"--rank", "8"},   {"--alpha", "16"},   {"--threads", "0"}, {"--sequence-tokens", "128"},
                 {"--rounds", "1"}, {"--steps", "1"},    {"--batch", "8"},   {"--learning-rate", "0.001"},
                 {"--seed", "1"}};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!flags.contains(argv[i])) {
      std::cerr << "utility_reference: unknown flag " << argv[i] << '\n';
      return 2;
    }
    flags[argv[i]] = argv[i + 1];
  }
  const Status status = flags["--write"].empty() ? Score(flags) : Train(flags);
  if (!status.ok()) std::cerr << concordat::ToString(status) << '\n';
  return status.ok() ? 0 : 1;
}
