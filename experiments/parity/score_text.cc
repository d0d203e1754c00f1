#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "aggregation/peft.h"
#include "worker/model/tokenizer.h"
#include "worker/train/engine.h"

// Log-likelihoods of a text's tokens under a base model and a PEFT adapter, for check_peft_export.py:
//   parity_score --model M.gguf --text FILE --adapter DIR [--dtype f32|bf16] [--max-tokens 256]
//   parity_score --model M.gguf --text FILE --train STEPS --write DIR [--rank 8] [--alpha 16]
// The second form makes such an adapter: it trains on the text and exports as a job does.
namespace {

using concordat::Status;
using concordat::train::Engine;
using concordat::train::EngineOptions;
using Flags = std::map<std::string, std::string>;

concordat::StatusOr<std::vector<int32_t>> Tokens(const Flags& flags, size_t max_tokens) {
  std::ifstream file(flags.at("--text"), std::ios::binary);
  if (!file) return concordat::NotFound("cannot read {}", flags.at("--text"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSIGN_OR_RETURN(const auto tokenizer, concordat::model::Tokenizer::Open(flags.at("--model")));
  ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer->Encode(text));
  if (tokens.size() > max_tokens) tokens.resize(max_tokens);
  return tokens;
}

Status Score(const Flags& flags, const concordat::model::WeightSource& source, const EngineOptions& options,
             const std::vector<int32_t>& tokens) {
  ASSIGN_OR_RETURN(const concordat::PeftAdapter peft,
                   concordat::ReadPeftFolder(flags.at("--adapter"), source.config().shape));
  ASSIGN_OR_RETURN(const auto engine, Engine::Create(source, peft.layout.spec(), options));
  RETURN_IF_ERROR(engine->SetAdapter(peft.adapter));
  const std::vector<uint8_t> target(tokens.size(), 1);
  ASSIGN_OR_RETURN(const std::vector<float> each, engine->LogLikelihoods({tokens, target}));
  nlohmann::json out = {{"tokens", tokens}, {"log_likelihoods", each}};
  std::cout << out.dump() << '\n';
  return concordat::OkStatus();
}

Status Train(const Flags& flags, const concordat::model::WeightSource& source, const EngineOptions& options,
             const std::vector<int32_t>& tokens) {
  const concordat::LoraSpec lora{
      .rank = static_cast<uint32_t>(std::stoul(flags.at("--rank"))),
      .alpha = std::stod(flags.at("--alpha")),
      .targets = {concordat::kAllLoraTargets.begin(), concordat::kAllLoraTargets.end()}};
  ASSIGN_OR_RETURN(const auto engine, Engine::Create(source, lora, options));
  std::vector<float> adapter(engine->layout().adapter_elements(), 0.0F);
  for (const concordat::AdapterTensor& t : engine->layout().tensors()) {
    // Only that A is not zero matters here; a job draws it from its seed.
    for (uint64_t i = 0; t.factor == concordat::LoraFactor::kA && i < t.elements(); ++i) {
      adapter[t.offset + i] =
          0.02F * (static_cast<float>((t.offset + i) * 2654435761U % 1009) / 504.5F - 1.0F);
    }
  }
  RETURN_IF_ERROR(engine->SetAdapter(adapter));
  RETURN_IF_ERROR(engine->ResetOptimizer({}));
  const std::vector<uint8_t> target(tokens.size(), 1);
  const concordat::train::Sequence sequence{tokens, target};
  for (int i = 0; i < std::stoi(flags.at("--train")); ++i) {
    ASSIGN_OR_RETURN(const auto step, engine->TrainStep({&sequence, 1}, /*update=*/true, 2e-3));
    std::cerr << "step " << i + 1 << ", loss per token "
              << step.loss_sum / static_cast<double>(step.target_tokens) << '\n';
  }
  RETURN_IF_ERROR(engine->GetAdapter(adapter));
  return concordat::WritePeftFolder(flags.at("--write"), engine->layout(), adapter, "SmolLM2-135M-Instruct");
}

Status Run(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto source, concordat::model::OpenWeights(flags.at("--model")));
  EngineOptions options;
  options.max_tokens = static_cast<uint32_t>(std::stoul(flags.at("--max-tokens")));
  options.dtype = flags.at("--dtype") == "bf16" ? EngineOptions::Dtype::kBf16 : EngineOptions::Dtype::kF32;
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, Tokens(flags, options.max_tokens));
  return flags.at("--write").empty() ? Score(flags, *source, options, tokens)
                                     : Train(flags, *source, options, tokens);
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags = {{"--model", ""},    {"--text", ""},          {"--adapter", ""},
                 {"--dtype", "f32"}, {"--max-tokens", "256"}, {"--train", "5"},
                 {"--write", ""},    {"--rank", "8"},         {"--alpha", "16"}};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!flags.contains(argv[i])) {
      std::cerr << "parity_score: unknown flag " << argv[i] << '\n';
      return 2;
    }
    flags[argv[i]] = argv[i + 1];
  }
  const Status status = Run(flags);
  if (!status.ok()) std::cerr << concordat::ToString(status) << '\n';
  return status.ok() ? 0 : 1;
}
