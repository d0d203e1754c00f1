// Any bytes as a message on the worker's stream, in both directions: all protobuf decoders of the protocol.
// The bytes are taken as a worker's and as a coordinator's message.
//
// What one side takes is what the other side's encoder says, and stays so.
#include <google/protobuf/stubs/logging.h>

#include <memory>
#include <optional>
#include <variant>

#include "coordinator/rpc/convert.h"
#include "proto/wire.h"
#include "tests/fuzz/choices.h"
#include "worker/rpc/convert.h"

namespace concordat::fuzz {
namespace {

namespace pb = ::concordat::v1;

template <typename... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overload(Fs...) -> Overload<Fs...>;

// ---- What a coordinator takes, as the worker's encoder says it.

using Said = worker::ToCoordinator;

Said SaidBy(const coordinator::WorkerEvent& event) {
  return std::visit(Overload{[](const coordinator::JobAnswer& m) -> Said {
                               worker::JobAnswer out{m.job,
                                                     static_cast<worker::Verdict>(m.verdict),
                                                     {},
                                                     m.bytes_per_round,
                                                     m.epsilon_before,
                                                     m.epsilon_after,
                                                     m.epsilon_budget};
                               for (const uint32_t rule : m.rules)
                                 out.rules.push_back(static_cast<policy::RuleCode>(rule));
                               return out;
                             },
                             [](const coordinator::WorkerProgress& m) -> Said {
                               return worker::Progress{m.id, static_cast<worker::Phase>(m.phase), m.permille};
                             },
                             [](const coordinator::ResultAck& m) -> Said {
                               return worker::ResultAck{m.id, m.new_adapter};
                             },
                             [](const coordinator::Dropout& m) -> Said {
                               return worker::Dropout{m.id, static_cast<worker::DropoutCode>(m.code),
                                                      static_cast<secagg::RefusalCode>(m.refusal)};
                             },
                             [](const coordinator::EvaluationCell& m) -> Said {
                               return worker::EvaluationCell{
                                   m.request, static_cast<worker::CellState>(m.state), m.values,
                                   static_cast<policy::RuleCode>(m.rule), m.epsilon_charged};
                             },
                             [](const auto& m) -> Said { return m; }},
                    event);
}
Said SaidBy(const coordinator::FromWorker& message) {
  return std::visit(Overload{[](const std::monostate&) -> Said { return worker::Pong{}; },
                             [](const coordinator::WorkerEvent& m) -> Said { return SaidBy(m); },
                             [](const auto& m) -> Said { return m; }},
                    message);
}

void AtCoordinator(ByteView bytes) {
  pb::WorkerMessage message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const auto taken = coordinator::FromProto(message);
  if (!taken.ok()) {
    Must(taken.status().code() == StatusCode::kInvalidArgument, "a bad message is InvalidArgument");
    return;
  }
  const pb::WorkerMessage said = worker::ToWire(SaidBy(*taken));
  const auto again = coordinator::FromProto(said);
  Must(again.ok(), "a coordinator takes what a worker says");
  Must(worker::ToWire(SaidBy(*again)).SerializeAsString() == said.SerializeAsString(),
       "a worker's message stays what it is");
}

// ---- What a worker takes, as the coordinator's encoder says it.

coordinator::ToWorkerMessage Shared(secagg::CoordinatorMessage message) {
  return std::make_shared<const secagg::CoordinatorMessage>(std::move(message));
}

/// Nothing for a ping, which has no encoder.
std::optional<pb::CoordinatorMessage> SaidBy(const worker::FromCoordinator& message) {
  using Out = std::optional<coordinator::ToWorkerMessage>;
  const Out out = std::visit(
      Overload{
          [](const worker::JobNotice& m) -> Out {
            return coordinator::JobNotice{std::make_shared<const policy::SignedJob>(m.job), !m.run,
                                          m.rounds_done};
          },
          [](const worker::AttemptAborted& m) -> Out {
            return coordinator::AttemptAborted{m.id, static_cast<coordinator::AbortReason>(m.reason)};
          },
          [](const worker::JobEnded& m) -> Out {
            using enum worker::JobEnded::State;
            const auto phase = m.state == kDone        ? coordinator::JobPhase::kDone
                               : m.state == kCancelled ? coordinator::JobPhase::kCancelled
                                                       : coordinator::JobPhase::kFailed;
            return coordinator::JobEnded{m.job, phase, m.final_adapter};
          },
          [](const worker::EvaluationRequest& m) -> Out {
            return coordinator::EvaluationRequest{m.request, m.job, m.adapters, m.max_documents, m.round};
          },
          [](const worker::Ping&) -> Out { return std::nullopt; },
          [](const auto& m) -> Out { return Shared(m); }},
      message);
  if (!out.has_value()) return std::nullopt;
  return coordinator::ToProto(*out);
}

void AtWorker(ByteView bytes) {
  pb::CoordinatorMessage message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const auto taken = worker::FromWire(message);
  if (!taken.ok()) {
    Must(taken.status().code() == StatusCode::kInvalidArgument, "a bad message is InvalidArgument");
    return;
  }
  const auto said = SaidBy(*taken);
  if (!said.has_value()) return;
  const auto again = worker::FromWire(*said);
  Must(again.ok(), "a worker takes what a coordinator says");
  Must(SaidBy(*again)->SerializeAsString() == said->SerializeAsString(),
       "a coordinator's message stays what it is");
}

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto quiet =
      google::protobuf::SetLogHandler(nullptr);  // a line for each text that is no UTF-8
  (void)quiet;
  concordat::fuzz::AtCoordinator({data, size});
  concordat::fuzz::AtWorker({data, size});
  return 0;
}
