#include "worker/rpc/transfers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "common/logging.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "proto/tls.h"
#include "proto/wire.h"
#include "worker/rpc/attempt_name.h"
#include "worker/rpc/retry.h"

namespace concordat::worker {
namespace {

constexpr uint64_t kChunkElements = 4 * kEncodeBlockElements;
constexpr uint64_t kDigestBytes = 32;
constexpr uint64_t kMostMakers = 8;  // threads; each holds one chunk
static_assert(VectorBytes(kChunkElements, kPlainBits) == 1 << 20, "the largest chunk that the schema allows");
/// Of one download's stream; the next goes on where it stopped.
constexpr std::chrono::minutes kStreamPatience{5};
constexpr Millis kFirstRetry{200};
constexpr Millis kLongestRetry{5'000};
constexpr std::string_view kSuffix = ".y";

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

/// Digests of chunks lie beside the vector they are of.
std::filesystem::path DigestsOf(const std::filesystem::path& file) { return file.string() + ".sha256"; }

Status WriteAt(int fd, uint64_t offset, ByteView data, const std::filesystem::path& path) {
  for (size_t done = 0; done < data.size();) {
    const ssize_t n = ::pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot store", path);
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

/// DataLoss when there is less than `out` at `offset`.
Status ReadAt(int fd, uint64_t offset, std::span<uint8_t> out, const std::filesystem::path& path) {
  for (size_t done = 0; done < out.size();) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return DataLoss("{}: a stored chunk cannot be read back", path.string());
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

}  // namespace

std::string OutboxName(const AttemptId& id) { return AttemptFileName(id, kSuffix); }

StatusOr<AttemptId> ParseOutboxName(std::string_view name) { return ParseAttemptFileName(name, kSuffix); }

Upload::Upload(StartUpload order, std::filesystem::path folder, Dial dial, OnEvent on_event)
    : id_(order.id),
      resumed_(false),
      order_(std::move(order)),
      path_(std::move(folder) / OutboxName(id_)),
      dial_(std::move(dial)),
      on_event_(std::move(on_event)),
      modulus_bits_(order_.plan.config().modulus_bits),
      sites_(order_.plan.config().sites),
      elements_(order_.plan.total_elements()),
      total_bytes_(order_.plan.vector_bytes()),
      chunk_bytes_(VectorBytes(kChunkElements, modulus_bits_)) {}

Upload::Upload(const ResumeUpload& order, std::filesystem::path folder, Dial dial, OnEvent on_event)
    : id_(order.id),
      resumed_(true),
      path_(std::move(folder) / OutboxName(id_)),
      dial_(std::move(dial)),
      on_event_(std::move(on_event)),
      modulus_bits_(order.modulus_bits),
      sites_(order.sites),
      elements_(order.elements),
      total_bytes_(VectorBytes(elements_, modulus_bits_)),
      chunk_bytes_(VectorBytes(kChunkElements, modulus_bits_)) {}

Upload::~Upload() {
  Cancel();
  if (maker_.joinable()) maker_.join();
  if (sender_.joinable()) sender_.join();
}

Status Upload::Open() {
  // Exclusive: a file that is there already was made under the same masks.
  const int how = O_RDWR | O_CLOEXEC | (resumed_ ? 0 : O_CREAT | O_EXCL);
  const auto digests = DigestsOf(path_);
  file_ = FileDescriptor(::open(path_.c_str(), how, 0600));
  if (file_.valid()) digests_ = FileDescriptor(::open(digests.c_str(), how, 0600));
  if (file_.valid() && digests_.valid()) return OkStatus();
  if (resumed_) return MakeStatus(StatusCode::kAborted, "nothing was stored before the restart");
  return ErrnoStatus(errno, "cannot create", path_);
}

void Upload::Start() {
  made_status_ = Open();
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
  digests_ = FileDescriptor();
  Delete(path_);
}

void Upload::Delete(const std::filesystem::path& file) {
  ::unlink(file.c_str());
  ::unlink(DigestsOf(file).c_str());
}

void Upload::Make() {
  Status status = made_status_;
  if (status.ok()) status = resumed_ ? CheckStored() : MakeChunks();
  // Masks and noise have done their work: what is stored is safe to send, and cannot be made again.
  order_.masks.clear();
  order_.seed = Secret32();
  order_.delta.reset();
  const std::lock_guard lock(mutex_);
  made_status_ = status;
  changed_.notify_all();
}

/// Chunks are made in any order and become part of what may be sent in theirs.
struct Upload::Line {
  Line(const Encoder& e, uint64_t n) : encoder(e), chunks(n) {}
  const Encoder& encoder;
  const uint64_t chunks;
  std::atomic<uint64_t> next{0};  // to be made
  crypto::Sha256Stream sha;       // guarded by mutex_
  uint64_t published = 0;         // guarded by mutex_
  bool broken = false;            // guarded by mutex_
  std::condition_variable turn;   // with mutex_
};

Status Upload::MakeChunks() {
  ASSIGN_OR_RETURN(const Encoder encoder,
                   Encoder::Make(order_.plan, *order_.delta, 1, order_.metrics, order_.seed));
  Line line(encoder, (order_.plan.total_elements() + kChunkElements - 1) / kChunkElements);
  const uint64_t cores = std::clamp<uint64_t>(std::thread::hardware_concurrency(), 1, kMostMakers);
  std::vector<Status> results(std::min(cores, line.chunks));
  {
    std::vector<std::jthread> others;
    for (size_t i = 1; i < results.size(); ++i) others.emplace_back([&, i] { results[i] = MakeSome(line); });
    results[0] = MakeSome(line);
  }
  for (const Status& result : results) RETURN_IF_ERROR(result);
  return OkStatus();
}

Status Upload::MakeSome(Line& line) {
  secagg::MaskStream masks(order_.masks);
  std::vector<uint32_t> words;
  Bytes packed;
  Status status;
  for (uint64_t chunk; status.ok() && (chunk = line.next++) < line.chunks;) {
    const uint64_t first = chunk * kChunkElements;
    words.resize(std::min(kChunkElements, order_.plan.total_elements() - first));
    status = line.encoder.Encode(first, words);
    if (!status.ok()) break;
    masks.Apply(first, words);
    const ByteView bytes = WireBytes(words, modulus_bits_, packed);
    status = WriteAt(file_.get(), VectorBytes(first, modulus_bits_), bytes, path_);
    if (status.ok()) status = Publish(line, chunk, bytes);
  }
  if (status.ok()) return status;
  const std::lock_guard lock(mutex_);
  line.broken = true;
  line.turn.notify_all();
  return status;
}

/// Waits for the chunk's turn. The whole digest needs the order; so does who reads the stored prefix.
Status Upload::Publish(Line& line, uint64_t chunk, ByteView data) {
  const Digest digest = crypto::Sha256(data);
  RETURN_IF_ERROR(WriteAt(digests_.get(), chunk * kDigestBytes, digest.view(), path_));
  std::unique_lock lock(mutex_);
  line.turn.wait(lock, [&] { return line.published == chunk || line.broken; });
  if (cancelled_) return FailedPrecondition("the upload was cancelled");
  if (line.broken) return FailedPrecondition("another chunk could not be made");
  line.sha.Update(data);
  ++line.published;
  made_bytes_ = chunk * chunk_bytes_ + data.size();
  if (made_bytes_ == total_bytes_) sha256_ = line.sha.Finish();
  line.turn.notify_all();
  changed_.notify_all();
  return OkStatus();
}

/// Every chunk of an earlier process, against its digest. A crash of the machine may have lost some of
/// either.
Status Upload::CheckStored() {
  const auto torn = [] {
    return MakeStatus(StatusCode::kAborted, "not all of it was stored before the restart");
  };
  crypto::Sha256Stream sha;
  Bytes chunk;
  for (uint64_t at = 0; at < total_bytes_; at += chunk_bytes_) {
    chunk.resize(std::min(chunk_bytes_, total_bytes_ - at));
    Digest digest;
    if (!ReadAt(file_.get(), at, chunk, path_).ok() ||
        !ReadAt(digests_.get(), at / chunk_bytes_ * kDigestBytes, digest.bytes, path_).ok() ||
        crypto::Sha256(chunk) != digest)
      return torn();
    sha.Update(chunk);
  }
  const std::lock_guard lock(mutex_);
  made_bytes_ = total_bytes_;
  sha256_ = sha.Finish();
  changed_.notify_all();
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
  return ReadAt(file_.get(), offset, {reinterpret_cast<uint8_t*>(out->data()), out->size()}, path_);
}

void Upload::OnStored(uint64_t bytes) { on_event_(UploadProgress{id_, bytes, total_bytes_}); }

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
  sender.emplace(id_, total_bytes_, sites_, dial_, static_cast<ChunkSource&>(*this));
  if (resumed_) sender->MayHaveLeft(total_bytes_);
  const Status status = sender->Run();
  // Nothing leaves that was not stored first.
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path_, error);
  const uint64_t left = std::min(sender->left(), error ? 0 : size), sent = sender->sent();
  const size_t connections = sender->connections();
  sender.reset();  // its connections close before anybody hears of the end
  if (status.ok()) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    spdlog::info("{}: {} bytes are up in {:.1f} s over {} connections, {} bytes were sent again", id_.Brief(),
                 total_bytes_, took.count(), connections, sent - std::min(sent, total_bytes_));
    Digest sha256;
    {
      const std::lock_guard lock(mutex_);
      sha256 = sha256_;
    }
    return on_event_(Uploaded{id_, elements_, total_bytes_, sha256});
  }
  Cancel();  // the maker too
  const Digest part = left > 0 ? DigestOfPrefix(left) : Digest{};
  on_event_(UploadEnded{id_, status, left, part});
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
    // A server without a thread to spare says so with this.
    const bool busy = status.code() == StatusCode::kResourceExhausted;
    if (!IsTransient(status) && !busy) return status;
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
