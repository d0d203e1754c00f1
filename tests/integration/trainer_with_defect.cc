// concordat-trainer with one protection left out, so that tests and experiments/leak can show that
// `concordat eval --leak` finds it: it does not do what its job, its ledger and its adapter's statement say.
// No shipped program has such a switch; tests/integration/CMakeLists.txt is the only place that builds it.
//   CONCORDAT_DEFECT 1: the gradient gets no noise.
//   CONCORDAT_DEFECT 2: units are clipped a thousand times later than the noise is made for.
#include "worker/train/trainer.h"

namespace concordat::train {

class DefectiveTrainer : public Trainer {
 public:
  using Trainer::Trainer;
  StatusOr<Round> TrainRound(sandbox::Train task, std::span<const float> adapter,
                             const OnProgress& progress) {
    if (task.privacy.has_value()) {
      task.privacy->noise_multiplier *= CONCORDAT_DEFECT == 1 ? 0 : 1e-3;
      task.privacy->clip *= CONCORDAT_DEFECT == 1 ? 1 : 1e3;
    }
    return Trainer::TrainRound(task, adapter, progress);
  }
};

}  // namespace concordat::train

#define Trainer DefectiveTrainer
#include "worker/train/trainer_main.cc"
