#ifndef CONCORDAT_WORKER_TRAIN_TORCH_PCH_H_
#define CONCORDAT_WORKER_TRAIN_TORCH_PCH_H_

// Precompiled: ATen alone takes longer to read than any file here takes to compile.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#endif  // CONCORDAT_WORKER_TRAIN_TORCH_PCH_H_
