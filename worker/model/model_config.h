#ifndef CONCORDAT_WORKER_MODEL_MODEL_CONFIG_H_
#define CONCORDAT_WORKER_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>

#include "aggregation/adapter_layout.h"

namespace concordat::model {

/// A Llama-like model's numbers, as its own files state them.
struct ModelConfig {
  std::string architecture;  // "llama"
  ModelShape shape;
  uint32_t vocab = 0;
  uint32_t context_length = 0;
  double rope_theta = 10000;
  double rms_norm_eps = 1e-5;
  bool tied_embeddings = false;
  int32_t bos_token = -1;
  int32_t eos_token = -1;
};

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_MODEL_CONFIG_H_
