#ifndef CONCORDAT_AGGREGATION_ADAPTER_STEPS_H_
#define CONCORDAT_AGGREGATION_ADAPTER_STEPS_H_

#include <span>

#include "aggregation/adapter_blob.h"
#include "aggregation/initial_adapter.h"
#include "aggregation/server_optimizer.h"
#include "common/canonical.h"
#include "privacy/crypto/hash.h"

// How a job's adapters follow from public numbers. The coordinator publishes them and every region makes them
// again, so both ends call these two functions and nothing else.
namespace concordat {

/// The blob of round 0, from the job's public seed: weights InitialAdapter under
/// TaggedHash("concordat/v1/initial-adapter", u64le seed). InvalidArgument as InitialAdapter.
inline StatusOr<AdapterBlob> FirstAdapter(const AdapterLayout& layout, const JobId& job, uint64_t seed) {
  CanonicalWriter out;
  out.U64(seed);
  AdapterBlob blob;
  blob.job = job;
  blob.layout = LayoutDigest(layout);
  ASSIGN_OR_RETURN(blob.weights,
                   InitialAdapter(layout, crypto::TaggedHash("concordat/v1/initial-adapter", out.bytes())));
  return blob;
}

/// The blob that round `parent.round` makes: FedAvg of the mean delta, rate `learning_rate`. In place of
/// `parent`: who needs it no more moves it in, and there is no second vector.
/// \param parent_hash AdapterHash of the parent's bytes. Errors as ServerOptimizer::Step.
inline StatusOr<AdapterBlob> NextAdapter(const AdapterLayout& layout, AdapterBlob parent,
                                         const Digest& parent_hash, std::span<const float> mean_delta,
                                         double learning_rate) {
  AdapterBlob blob;
  blob.job = parent.job;
  blob.round = parent.round + 1;
  blob.parent = parent_hash;
  blob.layout = parent.layout;
  ASSIGN_OR_RETURN(blob.weights, NewAdapter(layout, std::move(parent.weights), mean_delta, learning_rate));
  return blob;
}

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_ADAPTER_STEPS_H_
