#include <CLI/CLI.hpp>
#include <memory>

#include "cli/context.h"
#include "worker/model/weight_source.h"

namespace concordat::cli {
namespace {

Status RunHash(Context& context, const std::string& file) {
  ASSIGN_OR_RETURN(const Digest hash, model::HashModel(file));
  context.output.Json({{"model", file}, {"sha256", hash.hex()}});
  context.output.Say(hash.hex());
  return OkStatus();
}

Status RunInspect(Context& context, const std::string& file) {
  ASSIGN_OR_RETURN(const auto weights, model::OpenWeights(file));
  ASSIGN_OR_RETURN(const Digest hash, model::HashModel(file));
  const model::ModelConfig& config = weights->config();
  const ModelShape& s = config.shape;
  const std::string name = std::filesystem::path(file).stem().string();
  context.output.Json({{"model", file},
                       {"sha256", hash.hex()},
                       {"architecture", config.architecture},
                       {"shape",
                        {{"layers", s.layers},
                         {"hidden", s.hidden},
                         {"intermediate", s.intermediate},
                         {"heads", s.heads},
                         {"kv_heads", s.kv_heads},
                         {"head_dim", s.head_dim}}},
                       {"vocab", config.vocab},
                       {"context_length", config.context_length},
                       {"rope_theta", config.rope_theta},
                       {"tied_embeddings", config.tied_embeddings}});
  Output& out = context.output;
  out.Say(fmt::format("# {}, vocabulary {}, context {}, {} embeddings", Printable(config.architecture),
                      config.vocab, config.context_length, config.tied_embeddings ? "tied" : "separate"));
  out.Say("# For a job file; the licence is yours to look up: the model's file does not settle it.");
  out.Say("base_model:");
  out.Say("  name: " + Printable(name));
  out.Say("  sha256: " + hash.hex());
  out.Say("  license: FILL-IN");
  out.Say(fmt::format(
      "  shape: {{layers: {}, hidden: {}, intermediate: {}, heads: {}, kv_heads: {}, head_dim: {}}}",
      s.layers, s.hidden, s.intermediate, s.heads, s.kv_heads, s.head_dim));
  return OkStatus();
}

}  // namespace

void AddModelVerbs(CLI::App& app, Context& context) {
  CLI::App* model = app.add_subcommand("model", "a base model's hash and shape, for policies and job files");
  model->require_subcommand(1);
  const auto one = [&](const char* name, const char* help, const char* footer, auto run) {
    auto file = std::make_shared<std::string>();
    CLI::App* verb = model->add_subcommand(name, help);
    verb->footer(footer);
    verb->add_option("model", *file, "GGUF file or Hugging Face folder")->required();
    verb->callback(
        [&context, file, run] { context.run = [&context, file, run] { return run(context, *file); }; });
  };
  one("hash", "the SHA-256 that policies and jobs name", "Example: concordat model hash SmolLM2.gguf",
      RunHash);
  one("inspect", "the base_model block of a job file", "Example: concordat model inspect SmolLM2.gguf",
      RunInspect);
}

}  // namespace concordat::cli
