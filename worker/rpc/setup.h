#ifndef CONCORDAT_WORKER_RPC_SETUP_H_
#define CONCORDAT_WORKER_RPC_SETUP_H_

#include "common/bytes.h"
#include "policy/dataset_card.h"
#include "policy/node_config.h"
#include "policy/region_policy.h"
#include "worker/sandbox/channel.h"

namespace concordat::worker {

/// What the trainer may write (scratch) or read (dataset, base model, the folders of libraries and of the
/// machine that this process knows of) must hold nothing that it may not: keys, state, ledger, receipts,
/// policy, anchors, log and socket. InvalidArgument naming both and saying what to do. Links are followed.
/// The libraries of the trainer's own (LibTorch) are not looked at here.
Status CheckApart(const policy::WorkerConfig& config, const policy::DatasetCard& card);

/// Whether the dataset can be read by this user, is of the card's kind and holds something to train on; no
/// record is looked at. InvalidArgument saying what is wrong.
Status CheckDataset(const policy::DatasetCard& card);

/// The key that splits documents: 32 bytes. PermissionDenied when others may read it.
StatusOr<Digest> ReadSplitKey(const std::filesystem::path& path);
/// The key that the dataset's canaries are made from, read as the split key is; zero when it has none.
StatusOr<Digest> ReadCanaryKey(const policy::DatasetCard& card);

/// What only files of the region hold, and what of them a trainer needs.
struct TrainerSecrets {
  Digest split_key;
  Digest canary_key;  // zero without canaries
};
/// What a region's trainer is told first, whoever starts it: the same model, data, split and canaries.
/// \param base_model SHA-256 that the model must have. The scratch folder is left to the caller.
sandbox::Configure ConfigureTrainer(const policy::WorkerConfig& config, const policy::RegionPolicy& policy,
                                    const policy::DatasetCard& card, const TrainerSecrets& secrets,
                                    const Digest& base_model);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_SETUP_H_
