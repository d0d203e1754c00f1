#ifndef CONCORDAT_CLI_ADAPTER_CHAIN_H_
#define CONCORDAT_CLI_ADAPTER_CHAIN_H_

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "aggregation/adapter_blob.h"
#include "cli/client.h"
#include "policy/job.h"
#include "policy/ledger_statement.h"

// Where an adapter comes from: each names the one before it, back to the first, which anyone can make again
// from the job's public seed.
namespace concordat::cli {

struct ChainRound {
  RoundIndex round = 0;  // the round that made `adapter`
  AttemptIndex attempt = 0;
  Digest adapter;
  Digest parent;
  Digest sum_sha256;
  std::vector<std::string> survivors, missing;
  /// The most sites that it can have had.
  uint32_t roster() const { return static_cast<uint32_t>(survivors.size() + missing.size()); }
};

/// What is claimed of a job's adapters; nothing of it counts before VerifyChain.
struct ChainRecord {
  JobId job;
  std::string submitter;  // SPIFFE ID
  std::string job_file;   // as it was signed
  Digest initial_adapter;
  std::vector<ChainRound> rounds;
};

/// The record of a job at the coordinator.
StatusOr<ChainRecord> ChainRecordOf(const JobId& job, const std::string& submitter,
                                    const pb::RoundsReply& reply);

struct VerifiedAdapter {
  policy::JobSpec job;
  AdapterLayout layout;
  AdapterBlob blob;
  Digest hash;
};

/// Gives the bytes of the blob with this hash, of at most `max_bytes`.
using BlobSource = std::function<StatusOr<Bytes>(const Digest&, uint64_t max_bytes)>;

/// Walks from the first adapter, made anew from the job file's seed, to the one after `rounds` rounds: every
/// link of `record`, every blob's hash, job, round, layout and parent. DataLoss naming the first break;
/// InvalidArgument when there are fewer rounds. Does not show that an adapter is the right sum of its cohort:
/// every worker recomputes that from the published sum before it goes on.
StatusOr<VerifiedAdapter> VerifyChain(const ChainRecord& record, uint32_t rounds, const BlobSource& source);

inline constexpr const char* kChainFile = "chain.json";
inline constexpr const char* kPrivacyFile = "privacy.json";
inline constexpr const char* kJobFile = "job.yaml";

/// Where a folder keeps the blob with this hash.
std::filesystem::path BlobPath(const std::filesystem::path& folder, const Digest& hash);

/// Writes the folder of an adapter that was verified: the PEFT files, chain.json, privacy.json and README.md
/// with the regions' verified statements (PrivacyOf in released_privacy.h), job.yaml. The blobs are in it
/// already (BlobPath).
Status WriteAdapterFolder(const std::filesystem::path& folder, const ChainRecord& record,
                          const VerifiedAdapter& adapter,
                          std::vector<policy::SignedLedgerStatement> statements = {});

/// Whether the adapter of `record` may be written to `folder`: it does not exist, is empty, holds this job's
/// adapter, or blobs of this job from a transfer that broke. AlreadyExists naming what is in the way.
Status CheckAdapterFolder(const std::filesystem::path& folder, const ChainRecord& record);

/// Reads chain.json and job.yaml of such a folder. InvalidArgument naming the field.
struct AdapterFolder {
  ChainRecord record;
  uint32_t rounds = 0;
  Digest weights_sha256;  // of adapter_model.safetensors, as chain.json says
};
StatusOr<AdapterFolder> ReadAdapterFolder(const std::filesystem::path& folder);

/// VerifyChain with the folder's own blobs, and that its PEFT files are what the last blob gives.
StatusOr<VerifiedAdapter> VerifyAdapterFolder(const std::filesystem::path& folder);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_ADAPTER_CHAIN_H_
