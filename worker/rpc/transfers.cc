#include "worker/rpc/transfers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "common/logging.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "proto/tls.h"
#include "proto/wire.h"

namespace concordat::worker {
namespace {

constexpr uint64_t kChunkElements = 4 * kEncodeBlockElements;
constexpr uint64_t kChunkBytes = 4 * kChunkElements;
static_assert(kChunkBytes == 1 << 20, "the largest chunk that the schema allows");
/// Of one download's stream; the next goes on where it stopped.
constexpr std::chrono::minutes kStreamPatience{5};
constexpr Millis kFirstRetry{200};
constexpr Millis kLongestRetry{5'000};
constexpr std::string_view kSuffix = ".y";

bool Transient(const Status& status) {
  return status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kCancelled || status.code() == StatusCode::kAborted ||
         status.code() == StatusCode::kUnknown;
}

/// Makes a call's context cancellable by another thread for as long as it lives.
class Cancellable {
 public:
  Cancellable(std::mutex& mutex, grpc::ClientContext** slot, bool stop, grpc::ClientContext* context)
      : mutex_(mutex), slot_(slot) {
    *slot_ = context;
    if (stop) context->TryCancel();
  }
  ~Cancellable() {
    const std::lock_guard lock(mutex_);
    *slot_ = nullptr;
  }

 private:
  std::mutex& mutex_;
  grpc::ClientContext** slot_;
};

StatusOr<uint32_t> ParseNumber(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return InvalidArgument("expected a number");
  return value;
}

}  // namespace

std::string OutboxName(const AttemptId& id) {
  return fmt::format("{}-{}-{}{}", id.job.hex(), id.round, id.attempt, kSuffix);
}

StatusOr<AttemptId> ParseOutboxName(std::string_view name) {
  const auto bad = [&] { return InvalidArgument("no upload's file: {}", name.substr(0, 100)); };
  if (!name.ends_with(kSuffix)) return bad();
  name.remove_suffix(kSuffix.size());
  const size_t first = name.find('-');
  const size_t second = name.find('-', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos) return bad();
  AttemptId id;
  ASSIGN_OR_RETURN(id.job, Digest::FromHexText(name.substr(0, first)));
  ASSIGN_OR_RETURN(id.round, ParseNumber(name.substr(first + 1, second - first - 1)));
  ASSIGN_OR_RETURN(id.attempt, ParseNumber(name.substr(second + 1)));
  return id;
}

Upload::Upload(StartUpload order, std::filesystem::path folder, Dial dial, OnEvent on_event)
    : order_(std::move(order)),
      path_(std::move(folder) / OutboxName(order_.id)),
      dial_(std::move(dial)),
      on_event_(std::move(on_event)),
      total_bytes_(4 * order_.plan.total_elements()) {}

Upload::~Upload() {
  Cancel();
  if (maker_.joinable()) maker_.join();
  if (sender_.joinable()) sender_.join();
}

void Upload::Start() {
  // Exclusive: a file that is there already was made under the same masks.
  file_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file_.valid()) made_status_ = ErrnoStatus(errno, "cannot create", path_);
  maker_ = std::thread([this] { Make(); });
  sender_ = std::thread([this] { SendAll(); });
}

void Upload::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  changed_.notify_all();
}

void Upload::Discard() {
  if (maker_.joinable()) maker_.join();
  if (sender_.joinable()) sender_.join();
  file_ = FileDescriptor();
  ::unlink(path_.c_str());
}

void Upload::Make() {
  const Status status = file_.valid() ? MakeChunks() : made_status_;
  // Masks and noise have done their work: what is stored is safe to send, and cannot be made again.
  order_.masks.clear();
  order_.seed = Secret32();
  order_.delta.reset();
  const std::lock_guard lock(mutex_);
  made_status_ = status;
  changed_.notify_all();
}

Status Upload::MakeChunks() {
  ASSIGN_OR_RETURN(const Encoder encoder,
                   Encoder::Make(order_.plan, *order_.delta, 1, order_.metrics, order_.seed));
  secagg::MaskStream masks(order_.masks);
  crypto::Sha256Stream sha;
  std::vector<uint32_t> words;
  const uint64_t elements = order_.plan.total_elements();
  for (uint64_t first = 0; first < elements; first += kChunkElements) {
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_) return FailedPrecondition("the upload was cancelled");
    }
    words.resize(std::min(kChunkElements, elements - first));
    RETURN_IF_ERROR(encoder.Encode(first, words));
    masks.Apply(first, words);
    const auto* bytes = reinterpret_cast<const uint8_t*>(words.data());
    const size_t size = words.size() * sizeof(uint32_t);
    RETURN_IF_ERROR(Store(4 * first, {bytes, size}));
    sha.Update({bytes, size});
    const std::lock_guard lock(mutex_);
    made_bytes_ = 4 * first + size;
    if (made_bytes_ == total_bytes_) sha256_ = sha.Finish();
    changed_.notify_all();
  }
  return OkStatus();
}

Status Upload::Store(uint64_t offset, ByteView data) {
  for (size_t done = 0; done < data.size();) {
    const ssize_t n =
        ::pwrite(file_.get(), data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot store", path_);
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

StatusOr<uint64_t> Upload::Made() {
  const std::lock_guard lock(mutex_);
  if (cancelled_) return FailedPrecondition("the upload was cancelled");
  RETURN_IF_ERROR(made_status_);
  return made_bytes_;
}

void Upload::AwaitMore(uint64_t bytes, Millis at_most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, at_most, [&] { return cancelled_ || !made_status_.ok() || made_bytes_ > bytes; });
}

Status Upload::Read(uint64_t offset, std::string* out) {
  for (size_t done = 0; done < out->size();) {
    const ssize_t n =
        ::pread(file_.get(), out->data() + done, out->size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return DataLoss("{}: a stored chunk cannot be read back", path_.string());
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

void Upload::OnStored(uint64_t bytes) { on_event_(UploadProgress{order_.id, bytes, total_bytes_}); }

Digest Upload::DigestOfPrefix(uint64_t bytes) const {
  crypto::Sha256Stream sha;
  Bytes buffer(1 << 16);
  for (uint64_t at = 0; at < bytes;) {
    const ssize_t n = ::pread(file_.get(), buffer.data(), std::min<uint64_t>(buffer.size(), bytes - at),
                              static_cast<off_t>(at));
    if (n <= 0) break;
    sha.Update({buffer.data(), static_cast<size_t>(n)});
    at += static_cast<uint64_t>(n);
  }
  return sha.Finish();
}

void Upload::SendAll() {
  const auto began = std::chrono::steady_clock::now();
  std::optional<ChunkSender> sender;
  sender.emplace(order_.id, total_bytes_, dial_, static_cast<ChunkSource&>(*this));
  const Status status = sender->Run();
  const uint64_t left = sender->left(), sent = sender->sent();
  const size_t connections = sender->connections();
  sender.reset();  // its connections close before anybody hears of the end
  if (status.ok()) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    spdlog::info("{}: {} bytes are up in {:.1f} s over {} connections, {} bytes were sent again",
                 order_.id.Brief(), total_bytes_, took.count(), connections, sent - total_bytes_);
    Digest sha256;
    {
      const std::lock_guard lock(mutex_);
      sha256 = sha256_;
    }
    return on_event_(Uploaded{order_.id, total_bytes_ / 4, sha256});
  }
  Cancel();  // the maker too
  const Digest part = left > 0 ? DigestOfPrefix(left) : Digest{};
  on_event_(UploadEnded{order_.id, status, left, part});
}

// ---- Downloads.

Fetcher::Fetcher(std::filesystem::path store, std::shared_ptr<grpc::Channel> channel, OnFetched on_fetched)
    : store_(std::move(store)),
      stub_(pb::Federation::NewStub(std::move(channel))),
      on_fetched_(std::move(on_fetched)) {
  thread_ = std::thread([this] { Run(); });
}

Fetcher::~Fetcher() { Stop(); }

void Fetcher::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (call_ != nullptr) call_->TryCancel();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Fetcher::Get(const Fetch& fetch) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(fetch);
  changed_.notify_all();
}

Status Fetcher::Keep(const KeepAdapter& keep) const {
  return WriteFileAtomically(store_ / keep.sha256.hex(), *keep.blob, 0600);
}

void Fetcher::Run() {
  for (;;) {
    Fetch fetch;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      fetch = queue_.front();
      queue_.pop_front();
    }
    StatusOr<Bytes> content = FetchOne(fetch);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    on_fetched_(Fetched{fetch.sha256, std::move(content)});
  }
}

StatusOr<Bytes> Fetcher::FetchOne(const Fetch& fetch) {
  if (auto kept = ReadFile(store_ / fetch.sha256.hex(), fetch.max_bytes);
      kept.ok() && crypto::Sha256(*kept) == fetch.sha256)
    return kept;
  Bytes content;
  Millis wait = kFirstRetry;
  for (;;) {
    const size_t before = content.size();
    const Status status = Stream(fetch, &content);
    if (status.ok()) {
      if (crypto::Sha256(content) == fetch.sha256) return content;
      return InvalidArgument("the coordinator's file {} has another hash", fetch.sha256.brief());
    }
    // A server without a thread to spare, or a stream that was reset, says so with these two.
    const bool busy =
        status.code() == StatusCode::kResourceExhausted || status.code() == StatusCode::kInternal;
    if (!Transient(status) && !busy) return status;
    if (content.size() > before) wait = kFirstRetry;
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, wait, [this] { return stopping_; })) return Unavailable("stopping");
    wait = std::min(wait * 2, kLongestRetry);
  }
}

Status Fetcher::Stream(const Fetch& fetch, Bytes* content) {
  pb::GetBlobRequest request;
  request.set_sha256(wire::BytesOf(fetch.sha256));
  request.set_offset(content->size());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kStreamPatience);
  std::unique_lock lock(mutex_);
  const Cancellable cancellable(mutex_, &call_, stopping_, &context);
  lock.unlock();
  const auto reader = stub_->GetBlob(&context, request);
  pb::BlobChunk chunk;
  Status bad;
  while (bad.ok() && reader->Read(&chunk)) {
    if (chunk.offset() != content->size() || chunk.total() > fetch.max_bytes ||
        chunk.total() < content->size() || chunk.data().size() > chunk.total() - content->size()) {
      bad = InvalidArgument("the coordinator sent a chunk that does not fit");
      break;
    }
    const ByteView data = AsBytes(chunk.data());
    content->insert(content->end(), data.begin(), data.end());
  }
  if (!bad.ok()) context.TryCancel();
  const grpc::Status finish = reader->Finish();
  return bad.ok() ? tls::FromGrpc(finish) : bad;
}

}  // namespace concordat::worker
