#ifndef CONCORDAT_WORKER_RPC_SETUP_H_
#define CONCORDAT_WORKER_RPC_SETUP_H_

#include "common/bytes.h"
#include "policy/dataset_card.h"
#include "policy/node_config.h"

namespace concordat::worker {

/// What the trainer may write (scratch) or read (dataset, base model, the folders of libraries and of the
/// machine that this process knows of) must hold nothing that it may not: keys, state, ledger, receipts,
/// policy, anchors, log and socket. InvalidArgument naming both and saying what to do. Links are followed.
/// The libraries of the trainer's own (LibTorch) are not looked at here.
Status CheckApart(const policy::WorkerConfig& config, const policy::DatasetCard& card);

/// The key that splits documents: 32 bytes. PermissionDenied when others may read it.
StatusOr<Digest> ReadSplitKey(const std::filesystem::path& path);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_SETUP_H_
