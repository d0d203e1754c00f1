#ifndef CONCORDAT_POLICY_PAIRWISE_KEY_FILES_H_
#define CONCORDAT_POLICY_PAIRWISE_KEY_FILES_H_

#include <filesystem>
#include <string>

#include "common/random.h"
#include "privacy/secagg/pairwise.h"

// Files of pairwise keys (privacy/secagg/pairwise.h): text of four lines, the same file in both regions, so
// that it can be carried as it is.
//
//   concordat pairwise key 1
//   spiffe://de.example/worker/charite        two workers, in their order
//   spiffe://fr.example/worker/curie
//   64 hexadecimal digits                     32 random bytes
namespace concordat::policy {

inline constexpr std::string_view kPairwiseKeySuffix = ".key";

/// Makes a key between two workers and writes it to `file`, mode 0600. AlreadyExists when the file is there:
/// a key that peers hold is not written over. InvalidArgument unless they are two workers.
StatusOr<Secret32> MakePairwiseKeyFile(const std::filesystem::path& file, const SpiffeId& one,
                                       const SpiffeId& other, RandomSource& random);

/// The keys of `self` in all files of `folder` that end in .key, by the other worker.
/// PermissionDenied for a folder of another user or that others may enter (it must have mode 0700), or a file
/// that others may read (0600), saying what to do; NotFound without the folder. InvalidArgument, with file
/// and line and nothing of what the file says, for a file of another form, not of `self`, of a peer that has
/// one already, or with a key that is in another file too.
StatusOr<secagg::PairwiseKeys> LoadPairwiseKeys(const std::filesystem::path& folder, const SpiffeId& self);

/// 12 hexadecimal digits by which two people can hear, on the telephone, that they have the same key: of a
/// tagged hash, from which the key cannot be found.
std::string PairwiseKeyCheck(const Secret32& key);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_PAIRWISE_KEY_FILES_H_
