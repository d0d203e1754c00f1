#include "coordinator/core/records.h"

namespace concordat::coordinator {

std::string_view JobPhaseName(JobPhase phase) {
  switch (phase) {
    case JobPhase::kWaiting:
      return "waiting";
    case JobPhase::kRunning:
      return "running";
    case JobPhase::kDone:
      return "done";
    case JobPhase::kCancelled:
      return "cancelled";
    case JobPhase::kFailed:
      return "failed";
  }
  return "unknown";
}

std::string BriefList(const std::vector<SpiffeId>& workers) {
  std::string out;
  for (const SpiffeId& w : workers) out += (out.empty() ? "" : ", ") + w.Brief();
  return out.empty() ? "none" : out;
}

}  // namespace concordat::coordinator
