#ifndef CONCORDAT_CLI_DOCTOR_TRAINER_H_
#define CONCORDAT_CLI_DOCTOR_TRAINER_H_

#include <filesystem>
#include <string>

#include "common/clock.h"
#include "worker/sandbox/channel.h"

namespace concordat::cli {

/// What a region's trainer said of itself.
struct TrainerTrial {
  sandbox::Ready ready;
  Status prepared;  // whether the device took the model and there was something to train on
};

/// Starts `binary` as the worker would, lets it lock itself down, read model and dataset and load the model
/// on its device, and ends it. Its scratch folder is a temporary one that goes again.
///
/// DeadlineExceeded when it is silent for longer than `patience`; otherwise what it said itself, or the last
/// line that it wrote before it ended: a missing or unreadable library shows there alone.
StatusOr<TrainerTrial> TryTrainer(const std::filesystem::path& binary, sandbox::Configure configure,
                                  Millis patience);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_DOCTOR_TRAINER_H_
