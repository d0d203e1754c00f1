#ifndef CONCORDAT_COORDINATOR_RPC_CONVERT_H_
#define CONCORDAT_COORDINATOR_RPC_CONVERT_H_

#include <optional>
#include <variant>

#include "concordat/v1/federation.pb.h"
#include "concordat/v1/jobs.pb.h"
#include "coordinator/core/effects.h"

// Between generated messages and the core's structs; wire.h does it for secagg's own messages. FromProto
// checks every size, count and range and gives InvalidArgument naming the field.
namespace concordat::coordinator {

namespace pb = ::concordat::v1;

/// What may follow the hello on a worker's stream; monostate for a Pong, which says nothing.
using FromWorker = std::variant<std::monostate, WorkerEvent, secagg::Signed<secagg::InputHeader>>;
StatusOr<FromWorker> FromProto(const pb::WorkerMessage& in);

pb::CoordinatorMessage ToProto(const ToWorkerMessage& in);
/// Rounds in one state: a job may have more of them than a message has room for.
inline constexpr size_t kMostRounds = 64;
/// With the newest rounds, at most so many.
pb::JobState ToProto(const JobView& in, size_t most_rounds = kMostRounds);
pb::RoundSummary ToProto(const RoundRecord& in);
pb::PlanReply ToProto(const PlanOutcome& in);
pb::EvaluateReply ToProto(const EvaluationOutcome& in);

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_CONVERT_H_
