#ifndef CONCORDAT_TESTS_UNIT_WORKER_TRAIN_TINY_TRAINER_H_
#define CONCORDAT_TESTS_UNIT_WORKER_TRAIN_TINY_TRAINER_H_

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <vector>

#include "aggregation/initial_adapter.h"
#include "privacy/crypto/hash.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"
#include "worker/train/trainer.h"

namespace concordat::train {

inline constexpr int kRecords = 60;
inline constexpr int kPersons = 12;

/// A tiny model and sixty records of twelve persons, and what a trainer is told of them. What a test is about
/// is set in its own SetUp, which ends with MakeAdapter.
class TinyTrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteTinyModel(dir_ / "model.gguf");
    std::ofstream out(dir_ / "data.jsonl");
    for (int i = 0; i < kRecords; ++i) {
      out << R"({"who": )" << i % kPersons << R"(, "text": "Record )" << 10 + i
          << R"( the garden keeps water under stone and bread."})"
          << "\n";
    }
    configure_.base_model = (dir_ / "model.gguf").string();
    configure_.base_model_sha256 = *crypto::Sha256File(configure_.base_model);
    configure_.dataset = (dir_ / "data.jsonl").string();
    configure_.split_key = crypto::Sha256(AsBytes("split"));
    configure_.device = "cpu";
    configure_.threads = 1;  // no waiting for cores that are busy elsewhere
    configure_.dtype = 1;
    task_.seed = 7;
    task_.batch_sequences = 8;
    task_.beta2 = 0.95;
  }
  /// \pre prepare_ is what the test wants
  void MakeAdapter() {
    layout_ = *AdapterLayout::Make(testing::kTinyShape, prepare_.adapter);
    adapter_ = *InitialAdapter(*layout_, crypto::Sha256(AsBytes("seed")));
  }

  testing::TempDir dir_;
  testing::FakeClock clock_;
  sandbox::Configure configure_;
  sandbox::Prepare prepare_;
  sandbox::Train task_;
  std::optional<AdapterLayout> layout_;
  std::vector<float> adapter_;
};

}  // namespace concordat::train

#endif  // CONCORDAT_TESTS_UNIT_WORKER_TRAIN_TINY_TRAINER_H_
