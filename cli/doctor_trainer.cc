#include "cli/doctor_trainer.h"

#include "cli/trainer_interview.h"

namespace concordat::cli {

StatusOr<TrainerTrial> TryTrainer(const std::filesystem::path& binary, sandbox::Configure configure,
                                  Millis patience) {
  ScratchFolder scratch;
  RETURN_IF_ERROR(scratch.Make());
  configure.scratch = scratch.path().string();
  TrainerInterview interview(binary, scratch.path(), patience);
  RETURN_IF_ERROR(interview.Start());
  TrainerTrial trial;
  ASSIGN_OR_RETURN(trial.ready, interview.AskFor<sandbox::Ready>(configure));
  // The smallest adapter there is: what counts is that the model gets to its device.
  sandbox::Prepare prepare;
  prepare.shape = trial.ready.shape;
  prepare.adapter.rank = 1;
  prepare.adapter.alpha = 1;
  prepare.adapter.targets = {LoraTarget::kQ};
  prepare.sequence_tokens = 32;
  trial.prepared = interview.Ask(prepare).status();
  return trial;
}

}  // namespace concordat::cli
