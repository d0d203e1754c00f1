#include "coordinator/rpc/sum_engine.h"

#include <algorithm>

#include "aggregation/adapter_steps.h"
#include "common/heap.h"
#include "common/logging.h"
#include "policy/job_privacy.h"
#include "privacy/mechanism/encoder.h"
#include "privacy/secagg/mask.h"

namespace concordat::coordinator {
namespace {

constexpr uint64_t kReadElements = 1 << 18;
constexpr size_t kMostUnmaskThreads = 16;
constexpr uint64_t kUnmaskPiece = 1 << 16;  // elements; a piece starts on a cipher block
constexpr std::chrono::seconds kDiskRetry{2};
constexpr int kDiskTries = 60;

/// Threads work on ranges that do not overlap, each with its own stream.
void Unmask(ModularSum& sum, const std::vector<secagg::MaskKey>& keys) {
  const std::span<uint32_t> words = sum.mutable_words();
  const uint64_t pieces = (words.size() + kUnmaskPiece - 1) / kUnmaskPiece;
  const size_t threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMostUnmaskThreads);
  const uint64_t share = (pieces + threads - 1) / threads * kUnmaskPiece;
  const auto work = [&](uint64_t begin) {
    secagg::MaskStream stream(keys);
    const uint64_t end = std::min<uint64_t>(words.size(), begin + share);
    for (uint64_t at = begin; at < end; at += kUnmaskPiece) {
      stream.Apply(at, words.subspan(at, std::min(kUnmaskPiece, end - at)));
    }
  };
  std::vector<std::jthread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back(work, i * share);
  work(0);
}

}  // namespace

SumEngine::SumEngine(BlobStore& blobs, std::function<void(SumFinished)> finished,
                     std::function<void(AttemptId, Status)> failed)
    : blobs_(blobs), finished_(std::move(finished)), failed_(std::move(failed)), thread_([this] { Run(); }) {}

SumEngine::~SumEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void SumEngine::Push(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (task.drop) dropped_.insert(task.id);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_all();
}

void SumEngine::Add(const AttemptId& id, std::shared_ptr<Spool> upload, uint32_t modulus_bits) {
  Push({id, std::move(upload), nullptr, false, modulus_bits});
}
void SumEngine::Finish(SumOrder order) {
  const AttemptId id = order.id;
  Push({id, nullptr, std::make_shared<SumOrder>(std::move(order)), false, kPlainBits});
}
void SumEngine::Drop(const AttemptId& id) { Push({id, nullptr, nullptr, true, kPlainBits}); }

void SumEngine::Run() {
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      if (task.drop)
        dropped_.erase(task.id);
      else if (dropped_.contains(task.id))
        continue;
    }
    if (task.drop) {
      sums_.erase(task.id);
    } else if (task.upload != nullptr) {
      const Status status = AddUpload(task.id, *task.upload, task.modulus_bits);
      if (!status.ok()) failed_(task.id, status);
    } else if (task.order != nullptr) {
      auto result = MakeAdapter(*task.order);
      sums_.erase(task.id);
      if (result.ok()) {
        finished_(std::move(*result));
      } else {
        failed_(task.id, result.status());
      }
    }
  }
}

Status SumEngine::AddUpload(const AttemptId& id, const Spool& upload, uint32_t modulus_bits) {
  const uint64_t elements = upload.total() / WordBytes(modulus_bits);
  ModularSum& sum = sums_.try_emplace(id, elements).first->second;
  Bytes block(VectorBytes(std::min(kReadElements, elements), modulus_bits));
  for (uint64_t first = 0; first < elements; first += kReadElements) {
    const uint64_t count = std::min(kReadElements, elements - first);
    const auto part = std::span(block).first(VectorBytes(count, modulus_bits));
    RETURN_IF_ERROR(upload.Read(VectorBytes(first, modulus_bits), part));
    RETURN_IF_ERROR(sum.AddBytes(first, part, modulus_bits));
  }
  return OkStatus();
}

StatusOr<Digest> SumEngine::Store(ByteView content) {
  for (int tries = 1;; ++tries) {
    auto name = blobs_.Put(content);
    if (name.ok() || name.status().code() != StatusCode::kResourceExhausted || tries == kDiskTries)
      return name;
    if (tries == 1) spdlog::error("the disk is full; waiting to store {} bytes", content.size());
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, kDiskRetry, [this] { return stopping_; })) return name;
  }
}

StatusOr<SumFinished> SumEngine::MakeAdapter(const SumOrder& order) {
  const auto it = sums_.find(order.id);
  if (it == sums_.end()) return Internal("{} has no sum", order.id.Brief());
  ModularSum& sum = it->second;
  const policy::JobSpec& spec = *order.spec;
  ASSIGN_OR_RETURN(const EncodingPlan plan, policy::EncodingFor(spec, order.offer));
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(spec.base_model.shape, spec.adapter));
  ReturnFreeMemory();  // what uploads have left free, before the vectors of a result are made
  Unmask(sum, order.work.keys);
  SumFinished out;
  out.id = order.id;
  {
    Bytes packed;
    ASSIGN_OR_RETURN(out.sum_sha256, Store(WireBytes(sum.words(), plan.config().modulus_bits, packed)));
  }
  // Weights are 1 each, so the summed weight is the number of survivors.
  ASSIGN_OR_RETURN(DecodedSum decoded, Decode(plan, sum.words(), order.work.survivors.size()));
  sums_.erase(it);
  out.metric_sums = std::move(decoded.metric_sums);
  AdapterBlob adapter;
  {
    ASSIGN_OR_RETURN(const auto file, blobs_.Get(order.parent));
    ASSIGN_OR_RETURN(adapter, DecodeAdapterBlob(file->view(), layout));
  }
  ASSIGN_OR_RETURN(adapter, NextAdapter(layout, std::move(adapter), order.parent, decoded.mean_delta,
                                        spec.server.learning_rate));
  decoded = {};
  const Bytes bytes = EncodeAdapterBlob(adapter);
  adapter = {};
  ASSIGN_OR_RETURN(out.adapter, Store(bytes));
  return out;
}

}  // namespace concordat::coordinator
