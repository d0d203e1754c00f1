#include "worker/rpc/transfers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "proto/tls.h"
#include "proto/wire.h"

namespace concordat::worker {
namespace {

constexpr uint64_t kChunkElements = 4 * kEncodeBlockElements;
constexpr uint64_t kChunkBytes = 4 * kChunkElements;
static_assert(kChunkBytes == 1 << 20, "the largest chunk that the schema allows");
constexpr std::chrono::seconds kCallPatience{60};
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

/// The coordinator's answer to an upload. Its full disk is not ours: that is worth another try.
Status Theirs(const grpc::Status& answer) {
  const Status status = tls::FromGrpc(answer);
  if (status.ok() || Transient(status)) return status;
  if (status.code() == StatusCode::kResourceExhausted)
    return Unavailable("the coordinator: {}", Message(status));
  return FailedPrecondition("the coordinator does not take it: {}", Message(status));
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

Upload::Upload(StartUpload order, std::filesystem::path folder, std::shared_ptr<grpc::Channel> channel,
               OnEvent on_event)
    : order_(std::move(order)),
      path_(std::move(folder) / OutboxName(order_.id)),
      stub_(pb::Federation::NewStub(std::move(channel))),
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
  if (call_ != nullptr) call_->TryCancel();
  changed_.notify_all();
}

void Upload::Discard() {
  if (maker_.joinable()) maker_.join();
  if (sender_.joinable()) sender_.join();
  file_ = FileDescriptor();
  ::unlink(path_.c_str());
}

bool Upload::Pause(Millis time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return cancelled_; });
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
    for (size_t done = 0; done < size;) {
      const ssize_t n =
          ::pwrite(file_.get(), bytes + done, size - done, static_cast<off_t>(4 * first + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "cannot store", path_);
      done += static_cast<size_t>(n);
    }
    sha.Update({bytes, size});
    const std::lock_guard lock(mutex_);
    made_bytes_ = 4 * first + size;
    if (made_bytes_ == total_bytes_) sha256_ = sha.Finish();
    changed_.notify_all();
  }
  return OkStatus();
}

StatusOr<uint64_t> Upload::PutChunk(uint64_t offset) {
  pb::PutChunkRequest request;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return cancelled_ || !made_status_.ok() || made_bytes_ > offset; });
    if (cancelled_) return FailedPrecondition("the upload was cancelled");
    if (!made_status_.ok()) return made_status_;
    request.mutable_data()->resize(std::min(kChunkBytes, made_bytes_ - offset));
  }
  std::string& data = *request.mutable_data();
  for (size_t done = 0; done < data.size();) {
    const ssize_t n =
        ::pread(file_.get(), data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return DataLoss("{}: a stored chunk cannot be read back", path_.string());
    done += static_cast<size_t>(n);
  }
  wire::ToProto(order_.id, request.mutable_id());
  request.set_offset(offset);
  request.set_total(total_bytes_);
  request.set_sha256(wire::BytesOf(crypto::Sha256(AsBytes(data))));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallPatience);
  std::unique_lock lock(mutex_);
  const Cancellable cancellable(mutex_, &call_, cancelled_, &context);
  if (!cancelled_) left_bytes_ = std::max<uint64_t>(left_bytes_, offset + data.size());
  lock.unlock();
  pb::PutChunkReply reply;
  RETURN_IF_ERROR(Theirs(stub_->PutChunk(&context, request, &reply)));
  return reply.stored();
}

StatusOr<uint64_t> Upload::AskStored() {
  pb::UploadStateRequest request;
  wire::ToProto(order_.id, request.mutable_id());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kCallPatience);
  std::unique_lock lock(mutex_);
  const Cancellable cancellable(mutex_, &call_, cancelled_, &context);
  lock.unlock();
  pb::PutChunkReply reply;
  RETURN_IF_ERROR(Theirs(stub_->UploadState(&context, request, &reply)));
  return reply.stored();
}

Status Upload::SendChunks() {
  uint64_t offset = 0;
  Millis wait = kFirstRetry;
  bool unsure = false;
  while (offset < total_bytes_) {
    const StatusOr<uint64_t> stored = unsure ? AskStored() : PutChunk(offset);
    if (stored.ok()) {
      if (*stored > total_bytes_ || *stored > left_bytes_)
        return InvalidArgument("the coordinator says that it has more than was sent");
      const bool moved = *stored != offset || unsure;
      if (!moved) return InvalidArgument("the coordinator took a chunk and did not store it");
      offset = *stored;
      unsure = false;
      wait = kFirstRetry;
      on_event_(UploadProgress{order_.id, offset, total_bytes_});
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_) return FailedPrecondition("the upload was cancelled");
      if (!made_status_.ok()) return made_status_;
    }
    if (!Transient(stored.status())) return stored.status();
    if (!Pause(wait)) return FailedPrecondition("the upload was cancelled");
    wait = std::min(wait * 2, kLongestRetry);
    unsure = true;
  }
  return OkStatus();
}

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
  const Status status = SendChunks();
  Digest sha256;
  {
    const std::lock_guard lock(mutex_);
    sha256 = sha256_;
  }
  if (status.ok()) return on_event_(Uploaded{order_.id, total_bytes_ / 4, sha256});
  Cancel();  // the maker too
  const Digest part = left_bytes_ > 0 ? DigestOfPrefix(left_bytes_) : Digest{};
  on_event_(UploadEnded{order_.id, status, left_bytes_, part});
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
