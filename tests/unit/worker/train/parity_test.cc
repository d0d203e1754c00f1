#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/unit/worker/model/real_model.h"
#include "tests/unit/worker/train/random_model.h"

// The engine on real weights against transformers and peft. The fixtures are written by
// experiments/parity/make_logits_fixture.py and make_gradient_fixture.py.
namespace concordat::train {
namespace {

nlohmann::json Fixture(const std::string& name) {
  std::ifstream file("tests/data/parity/" + name);
  if (!file) throw std::runtime_error("no fixture " + name);
  return nlohmann::json::parse(file);
}

Text AllTargetsOf(const nlohmann::json& prompt) {
  Text text{.tokens = prompt.at("tokens").get<std::vector<int32_t>>(), .target = {}};
  text.target.assign(text.tokens.size(), 1);
  return text;
}

class ParityTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> Make(const LoraSpec& lora, EngineOptions options) {
    const auto source = model::OpenWeights(model::RealModel());
    EXPECT_TRUE(source.ok()) << source.status();
    options.threads = 2;
    options.max_tokens = 128;
    auto engine = Engine::Create(**source, lora, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return std::move(engine).value();
  }
};

TEST_F(ParityTest, LogitsAreThoseOfTransformersInF32) {
  // transformers' own two ways of attention differ by up to 8e-5 in a logit of this model.
  constexpr double kTolerance = 2e-3;
  const auto engine = Make(AllTargets(1, 1), {.dtype = EngineOptions::Dtype::kF32});
  double worst = 0;
  const auto fixture = Fixture("smollm2_logits.json");
  ASSERT_EQ(fixture.at("prompts").size(), 3U);
  for (const auto& prompt : fixture.at("prompts")) {
    const Text text = AllTargetsOf(prompt);
    const std::vector<float> logits = engine->Logits(text.tokens).value();
    const size_t vocab = logits.size() / text.tokens.size();
    for (const auto& row : prompt.at("rows")) {
      for (size_t i = 0; i < row.at("ids").size(); ++i) {
        const float got = logits[row.at("position").get<size_t>() * vocab + row.at("ids")[i].get<size_t>()];
        worst = std::max(worst, std::abs(got - row.at("logits")[i].get<double>()));
      }
    }
    const double loss = engine->Evaluate(text.view()).value().loss_sum;
    EXPECT_NEAR(loss, prompt.at("loss_sum").get<double>(), 1e-3) << prompt.at("language");
  }
  EXPECT_LT(worst, kTolerance);
  RecordProperty("worst_difference", fmt::format("{:.3g}", worst));
}

TEST_F(ParityTest, LossAndGradientsAreThoseOfPeftInF32) {
  constexpr double kTolerance = 1e-3;  // relative
  const auto fixture = Fixture("smollm2_gradients.json");
  const auto engine =
      Make(AllTargets(fixture.at("rank"), fixture.at("alpha")), {.dtype = EngineOptions::Dtype::kF32});
  const AdapterLayout& layout = engine->layout();
  std::vector<float> adapter(layout.adapter_elements());
  for (size_t i = 0; i < adapter.size(); ++i) {
    adapter[i] = static_cast<float>(fixture.at("size").get<double>() * HashUnit(fixture.at("seed"), i));
  }
  ASSERT_TRUE(engine->SetAdapter(adapter).ok());
  std::vector<float> gradient(layout.delta_elements());
  double worst = 0;
  for (const auto& prompt : fixture.at("prompts")) {
    ASSERT_TRUE(engine->ResetOptimizer({}).ok());
    const Text text = AllTargetsOf(prompt);
    const auto step = engine->TrainStep(std::vector{text.view()}, /*update=*/false, 0);
    ASSERT_TRUE(step.ok()) << step.status();
    EXPECT_NEAR(step->loss_sum, prompt.at("loss_sum").get<double>(), 1e-3);
    ASSERT_TRUE(engine->GetGradient(gradient).ok());
    for (const AdapterTensor& t : layout.tensors()) {
      const float* g = gradient.data() + t.delta_offset;
      const std::string name = fmt::format("{}.{}.lora_{}", t.layer, LoraTargetModule(t.target),
                                           t.factor == LoraFactor::kB ? "B" : "A");
      double square = 0;
      for (uint64_t i = 0; i < t.elements(); ++i) square += static_cast<double>(g[i]) * g[i];
      const double norm = prompt.at("norms").at(name).get<double>();
      EXPECT_NEAR(std::sqrt(square), norm, kTolerance * norm) << name;
      if (!prompt.at("samples").contains(name)) continue;
      // An element near zero is compared with the size of its neighbours.
      const double typical = norm / std::sqrt(static_cast<double>(t.elements()));
      for (uint64_t i = 0; i < 16; ++i) {
        const auto at = static_cast<uint64_t>((HashUnit(fixture.at("sample_seed"), i) + 1) / 2 *
                                              static_cast<double>(t.elements()));
        const double expected = prompt.at("samples").at(name)[i].get<double>();
        const double error = std::abs(g[at] - expected) / std::max(std::abs(expected), typical);
        EXPECT_LT(error, kTolerance) << name << " element " << at;
        worst = std::max(worst, error);
      }
    }
  }
  RecordProperty("worst_relative_difference", std::to_string(worst));
}

TEST_F(ParityTest, GradientsInBf16AreAsCloseToF32AsPytorchsOwn) {
  // peft with PyTorch's autograd in bf16 is 0.065, 0.035 and 0.069 away from f32 on these three texts: with
  // so few tokens little averages out (0.01 at 512 tokens).
  constexpr double kTolerance = 0.08;
  const auto fixture = Fixture("smollm2_gradients.json");
  const LoraSpec lora = AllTargets(fixture.at("rank"), fixture.at("alpha"));
  std::unique_ptr<Engine> engines[2];
  for (const int half : {0, 1}) {
    engines[half] =
        Make(lora, {.dtype = half == 1 ? EngineOptions::Dtype::kBf16 : EngineOptions::Dtype::kF32});
    std::vector<float> adapter(engines[half]->layout().adapter_elements());
    for (size_t i = 0; i < adapter.size(); ++i) adapter[i] = static_cast<float>(0.02 * HashUnit(7, i));
    ASSERT_TRUE(engines[half]->SetAdapter(adapter).ok());
  }
  for (const auto& prompt : fixture.at("prompts")) {
    const Text text = AllTargetsOf(prompt);
    std::vector<float> gradients[2];
    for (const int half : {0, 1}) {
      ASSERT_TRUE(engines[half]->ResetOptimizer({}).ok());
      ASSERT_TRUE(engines[half]->TrainStep(std::vector{text.view()}, false, 0).ok());
      gradients[half].resize(engines[half]->layout().delta_elements());
      ASSERT_TRUE(engines[half]->GetGradient(gradients[half]).ok());
    }
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      difference += std::pow(gradients[1][i] - gradients[0][i], 2);
      norm += std::pow(gradients[0][i], 2);
    }
    const double error = std::sqrt(difference / norm);
    EXPECT_LT(error, kTolerance) << prompt.at("language");
    RecordProperty("relative_error_" + prompt.at("language").get<std::string>(),
                   fmt::format("{:.3g}", error));
  }
}

}  // namespace
}  // namespace concordat::train
