#include "worker/sandbox/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "common/canonical.h"

namespace concordat::sandbox {
namespace {

constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxDevice = 64;
constexpr size_t kMaxField = 128;
constexpr size_t kMaxWhat = 1000;
constexpr size_t kMaxMessageBytes = 16384;
constexpr size_t kMaxDescriptors = 4;  // room to see, and close, more than the one that is allowed

// One number for each kind, each direction on its own range, so that a message can never be read as one of
// the other direction.
enum class Kind : uint8_t {
  kConfigure = 1,
  kPrepare = 2,
  kTrain = 3,
  kEvaluate = 4,
  kStop = 5,
  kAudit = 6,
  kReady = 129,
  kPrepared = 130,
  kProgress = 131,
  kTrained = 132,
  kEvaluated = 133,
  kFailed = 134,
  kAudited = 135,
};

void Put(CanonicalWriter& out, const ModelShape& shape) {
  for (uint32_t v :
       {shape.layers, shape.hidden, shape.intermediate, shape.heads, shape.kv_heads, shape.head_dim})
    out.U32(v);
}

ModelShape GetShape(CanonicalReader& in) {
  ModelShape shape;
  for (uint32_t* v :
       {&shape.layers, &shape.hidden, &shape.intermediate, &shape.heads, &shape.kv_heads, &shape.head_dim})
    *v = in.U32();
  return shape;
}

void Put(CanonicalWriter& out, const LoraSpec& spec) {
  out.U32(spec.rank);
  out.F64(spec.alpha);
  out.U8(static_cast<uint8_t>(spec.method));
  out.Count(spec.targets.size());
  for (LoraTarget target : spec.targets) out.U8(static_cast<uint8_t>(target));
}

uint8_t Code(CanonicalReader& in, uint8_t last, std::string_view what) {
  const uint8_t code = in.U8();
  if (code > last) in.Fail(what);
  return code <= last ? code : uint8_t{0};
}

double Finite(CanonicalReader& in) {
  const double value = in.F64();
  if (!std::isfinite(value)) in.Fail("a number that is not finite");
  return std::isfinite(value) ? value : 0;
}

LoraSpec GetLora(CanonicalReader& in) {
  LoraSpec spec;
  spec.rank = in.U32();
  spec.alpha = Finite(in);
  spec.method = static_cast<LoraMethod>(Code(in, kAllLoraMethods.size() - 1, "an unknown method"));
  const size_t count = in.Count(kAllLoraTargets.size());
  for (size_t i = 0; i < count; ++i) {
    const auto target = static_cast<LoraTarget>(Code(in, kAllLoraTargets.size() - 1, "an unknown layer"));
    if (!spec.targets.empty() && spec.targets.back() >= target) in.Fail("layers out of order");
    spec.targets.push_back(target);
  }
  return spec;
}

void Start(CanonicalWriter& out, Kind kind) { out.U8(static_cast<uint8_t>(kind)); }

void Write(CanonicalWriter& out, const Configure& m) {
  Start(out, Kind::kConfigure);
  out.Text(m.base_model);
  out.Put(m.base_model_sha256);
  out.Text(m.dataset);
  out.U8(m.dataset_kind);
  out.Text(m.person_field);
  out.Bool(m.promise.has_value());
  if (m.promise) {
    out.U8(static_cast<uint8_t>(m.promise->unit));
    out.F64(m.promise->delta);
  }
  out.Put(m.split_key);
  out.U32(m.held_out_permille);
  out.U32(m.canaries);
  out.Put(m.canary_key);
  out.Text(m.device);
  out.U32(m.threads);
  out.U8(m.dtype);
  out.Bool(m.sandbox_required);
  out.Text(m.scratch);
}

void Write(CanonicalWriter& out, const Prepare& m) {
  Start(out, Kind::kPrepare);
  Put(out, m.shape);
  Put(out, m.adapter);
  out.U32(m.sequence_tokens);
  out.Bool(m.may_be_empty);
}

// Beside the unit: a sum follows.
constexpr uint8_t kHasSum = 0x80;

void Put(CanonicalWriter& out, const UnitPrivacy& p) {
  out.U8(static_cast<uint8_t>(p.unit) | (p.sum ? kHasSum : 0));
  for (double v : {p.clip, p.noise_multiplier, p.sampling_rate, p.expected_units, p.metrics_noise_multiplier,
                   p.loss_bound, p.delta})
    out.F64(v);
  if (!p.sum) return;
  out.F64(p.sum->grid);
  out.U32(p.sum->largest);
  out.U32(p.sum->metric_units);
}

UnitPrivacy::Unit UnitOf(uint8_t unit, CanonicalReader& in) {
  if (unit != 2 && unit != 3) in.Fail("an unknown privacy unit");
  return static_cast<UnitPrivacy::Unit>(unit);
}

UnitPrivacy GetUnitPrivacy(CanonicalReader& in) {
  UnitPrivacy p;
  const uint8_t form = in.U8();
  p.unit = UnitOf(form & ~kHasSum, in);
  for (double* v : {&p.clip, &p.noise_multiplier, &p.sampling_rate, &p.expected_units,
                    &p.metrics_noise_multiplier, &p.loss_bound, &p.delta})
    *v = Finite(in);
  if ((form & kHasSum) == 0) return p;
  UnitSum& sum = p.sum.emplace();
  sum.grid = Finite(in);
  sum.largest = in.U32();
  sum.metric_units = in.U32();
  return p;
}

void Write(CanonicalWriter& out, const Train& m) {
  Start(out, Kind::kTrain);
  out.U64(m.seed);
  out.U32(m.round);
  out.U32(m.local_steps);
  out.U32(m.batch_sequences);
  for (double v : {m.learning_rate, m.weight_decay, m.beta2, m.gradient_clip}) out.F64(v);
  out.Bool(m.privacy.has_value());
  if (m.privacy) Put(out, *m.privacy);
}

void Write(CanonicalWriter& out, const Evaluate& m) {
  Start(out, Kind::kEvaluate);
  out.Bool(m.with_adapter);
  out.U32(m.max_documents);
  out.Bool(m.bounds.has_value());
  if (!m.bounds) return;
  out.U8(static_cast<uint8_t>(m.bounds->unit));
  out.U32(m.bounds->bytes);
  out.F64(m.bounds->bits_per_byte);
  out.U32(m.bounds->bit_units);
}

void Write(CanonicalWriter& out, const Audit& m) {
  Start(out, Kind::kAudit);
  out.U32(m.max_documents);
  out.F64(m.delta);
  out.F64(m.confidence);
}

void Write(CanonicalWriter& out, const Stop&) { Start(out, Kind::kStop); }

void Write(CanonicalWriter& out, const Ready& m) {
  Start(out, Kind::kReady);
  out.U8(static_cast<uint8_t>(m.lockdown));
  Put(out, m.shape);
  out.U64(m.train_documents);
  out.U64(m.held_out_documents);
  out.U64(m.train_bytes);
  out.U64(m.train_units);
}

void Write(CanonicalWriter& out, const Prepared&) { Start(out, Kind::kPrepared); }

void Write(CanonicalWriter& out, const TrainerProgress& m) {
  Start(out, Kind::kProgress);
  out.U32(m.permille);
  out.F64(m.tokens_per_second);
  out.F64(m.loss);
}

void Write(CanonicalWriter& out, const Trained& m) {
  Start(out, Kind::kTrained);
  out.F64(m.mean_loss);
  out.U64(m.target_tokens);
  out.U64(m.tokens);
  out.F64(m.seconds);
  out.U64(m.steps);
  out.Bool(m.sums.has_value());
  if (!m.sums) return;
  out.I64(m.sums->loss);
  out.I64(m.sums->targets);
}

void Write(CanonicalWriter& out, const Evaluated& m) {
  Start(out, Kind::kEvaluated);
  out.F64(m.bits_per_byte);
  out.F64(m.standard_error);
  out.U64(m.documents);
  out.U64(m.bytes);
  out.F64(m.seconds);
  out.Bool(m.sums.has_value());
  if (!m.sums) return;
  out.I64(m.sums->bits);
  out.I64(m.sums->bytes);
}

void Put(CanonicalWriter& out, const audit::Membership& m) {
  out.U32(m.members);
  out.U32(m.non_members);
  out.F64(m.auc);
  out.F64(m.standard_error);
  out.Bool(m.tpr_at_1_percent.has_value());
  if (m.tpr_at_1_percent) out.F64(*m.tpr_at_1_percent);
}

void Put(CanonicalWriter& out, const audit::Exposure& m) {
  out.U32(m.planted);
  out.U32(m.references);
  for (double v : {m.mean, m.median, m.most, m.flag}) out.F64(v);
}

void Put(CanonicalWriter& out, const audit::OneRunAudit& m) {
  for (uint32_t v : {m.canaries, m.guesses, m.correct}) out.U32(v);
  for (double v : {m.delta, m.confidence, m.epsilon, m.ceiling}) out.F64(v);
}

void Write(CanonicalWriter& out, const Audited& m) {
  Start(out, Kind::kAudited);
  out.Bool(m.membership.has_value());
  if (m.membership) Put(out, *m.membership);
  out.Bool(m.exposure.has_value());
  if (m.exposure) Put(out, *m.exposure);
  out.Bool(m.one_run.has_value());
  if (m.one_run) Put(out, *m.one_run);
  out.F64(m.seconds);
}

void Write(CanonicalWriter& out, const Failed& m) {
  Start(out, Kind::kFailed);
  out.U8(m.code);
  out.Text(std::string_view(m.what).substr(0, kMaxWhat));
}

template <typename Variant>
Bytes EncodeVariant(const Variant& message) {
  CanonicalWriter out;
  std::visit([&](const auto& m) { Write(out, m); }, message);
  return out.Take();
}

Configure ReadConfigure(CanonicalReader& in) {
  Configure m;
  m.base_model = in.Text(kMaxPath);
  m.base_model_sha256 = in.Hash();
  m.dataset = in.Text(kMaxPath);
  m.dataset_kind = Code(in, 1, "an unknown kind of dataset");
  m.person_field = in.Text(kMaxField);
  if (in.Bool()) {
    UnitPromise& promise = m.promise.emplace();
    promise.unit = UnitOf(in.U8(), in);
    promise.delta = Finite(in);
    if (!(promise.delta > 0 && promise.delta < 1)) in.Fail("a delta that is no probability");
    if (promise.unit == TrainedUnit::kPerson && m.person_field.empty())
      in.Fail("persons without their field");
  }
  m.split_key = in.Hash();
  m.held_out_permille = in.U32();
  if (m.held_out_permille > 1000) in.Fail("more held out than there is");
  m.canaries = in.U32();
  m.canary_key = in.Hash();
  m.device = in.Text(kMaxDevice);
  m.threads = in.U32();
  m.dtype = Code(in, 2, "an unknown number type");
  m.sandbox_required = in.Bool();
  m.scratch = in.Text(kMaxPath);
  return m;
}

Train ReadTrain(CanonicalReader& in) {
  Train m;
  m.seed = in.U64();
  m.round = in.U32();
  m.local_steps = in.U32();
  m.batch_sequences = in.U32();
  for (double* v : {&m.learning_rate, &m.weight_decay, &m.beta2, &m.gradient_clip}) *v = Finite(in);
  if (in.Bool()) m.privacy = GetUnitPrivacy(in);
  return m;
}

Ready ReadReady(CanonicalReader& in) {
  Ready m;
  m.lockdown = static_cast<Ready::Lockdown>(Code(in, 2, "an unknown lockdown"));
  m.shape = GetShape(in);
  m.train_documents = in.U64();
  m.held_out_documents = in.U64();
  m.train_bytes = in.U64();
  m.train_units = in.U64();
  return m;
}

TrainerProgress ReadProgress(CanonicalReader& in) {
  TrainerProgress m;
  m.permille = in.U32();
  if (m.permille > 1000) in.Fail("progress over 1000 permille");
  m.tokens_per_second = Finite(in);
  m.loss = Finite(in);
  return m;
}

Trained ReadTrained(CanonicalReader& in) {
  Trained m;
  m.mean_loss = Finite(in);
  m.target_tokens = in.U64();
  m.tokens = in.U64();
  m.seconds = Finite(in);
  m.steps = in.U64();
  if (in.Bool()) {
    const int64_t loss = in.I64();
    m.sums = RoundSums{loss, in.I64()};
  }
  return m;
}

Evaluated ReadEvaluated(CanonicalReader& in) {
  Evaluated m;
  m.bits_per_byte = Finite(in);
  m.standard_error = Finite(in);
  m.documents = in.U64();
  m.bytes = in.U64();
  m.seconds = Finite(in);
  if (in.Bool()) {
    const int64_t bits = in.I64();
    m.sums = UnitSums{bits, in.I64()};
  }
  return m;
}

Evaluate ReadEvaluate(CanonicalReader& in) {
  Evaluate m;
  m.with_adapter = in.Bool();
  m.max_documents = in.U32();
  if (!in.Bool()) return m;
  UnitBounds bounds;
  bounds.unit = UnitOf(in.U8(), in);
  bounds.bytes = in.U32();
  bounds.bits_per_byte = Finite(in);
  bounds.bit_units = in.U32();
  m.bounds = bounds;
  return m;
}

Audit ReadAudit(CanonicalReader& in) {
  Audit m;
  m.max_documents = in.U32();
  m.delta = Finite(in);
  m.confidence = Finite(in);
  return m;
}

audit::Membership ReadMembership(CanonicalReader& in) {
  audit::Membership m;
  m.members = in.U32();
  m.non_members = in.U32();
  m.auc = Finite(in);
  m.standard_error = Finite(in);
  if (in.Bool()) m.tpr_at_1_percent = Finite(in);
  return m;
}

audit::Exposure ReadExposure(CanonicalReader& in) {
  audit::Exposure m;
  m.planted = in.U32();
  m.references = in.U32();
  for (double* v : {&m.mean, &m.median, &m.most, &m.flag}) *v = Finite(in);
  return m;
}

audit::OneRunAudit ReadOneRun(CanonicalReader& in) {
  audit::OneRunAudit m;
  for (uint32_t* v : {&m.canaries, &m.guesses, &m.correct}) *v = in.U32();
  for (double* v : {&m.delta, &m.confidence, &m.epsilon, &m.ceiling}) *v = Finite(in);
  return m;
}

Audited ReadAudited(CanonicalReader& in) {
  Audited m;
  if (in.Bool()) m.membership = ReadMembership(in);
  if (in.Bool()) m.exposure = ReadExposure(in);
  if (in.Bool()) m.one_run = ReadOneRun(in);
  m.seconds = Finite(in);
  return m;
}

Failed ReadFailed(CanonicalReader& in) {
  Failed m;
  m.code = Code(in, 16, "an unknown status code");
  m.what = in.Text(kMaxWhat);
  // It goes to the region's log and to a terminal: control characters stay out.
  for (char& c : m.what) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return m;
}

}  // namespace

Bytes Encode(const ToTrainer& message) { return EncodeVariant(message); }
Bytes Encode(const FromTrainer& message) { return EncodeVariant(message); }

StatusOr<ToTrainer> DecodeToTrainer(ByteView bytes) {
  CanonicalReader in(bytes);
  ToTrainer message = Stop{};
  switch (static_cast<Kind>(in.U8())) {
    case Kind::kConfigure:
      message = ReadConfigure(in);
      break;
    case Kind::kPrepare: {
      Prepare m;
      m.shape = GetShape(in);
      m.adapter = GetLora(in);
      m.sequence_tokens = in.U32();
      m.may_be_empty = in.Bool();
      message = std::move(m);
      break;
    }
    case Kind::kTrain:
      message = ReadTrain(in);
      break;
    case Kind::kEvaluate:
      message = ReadEvaluate(in);
      break;
    case Kind::kAudit:
      message = ReadAudit(in);
      break;
    case Kind::kStop:
      break;
    default:
      in.Fail("no kind of message that a worker sends");
  }
  RETURN_IF_ERROR(in.Finish());
  return message;
}

StatusOr<FromTrainer> DecodeFromTrainer(ByteView bytes) {
  CanonicalReader in(bytes);
  FromTrainer message = Prepared{};
  switch (static_cast<Kind>(in.U8())) {
    case Kind::kReady:
      message = ReadReady(in);
      break;
    case Kind::kPrepared:
      break;
    case Kind::kProgress:
      message = ReadProgress(in);
      break;
    case Kind::kTrained:
      message = ReadTrained(in);
      break;
    case Kind::kEvaluated:
      message = ReadEvaluated(in);
      break;
    case Kind::kAudited:
      message = ReadAudited(in);
      break;
    case Kind::kFailed:
      message = ReadFailed(in);
      break;
    default:
      in.Fail("no kind of message that a trainer sends");
  }
  RETURN_IF_ERROR(in.Finish());
  return message;
}

Status Channel::Send(const Bytes& message, int memory_fd) {
  if (message.size() > kMaxMessageBytes)
    return InvalidArgument("a message of {} bytes: at most {} fit", message.size(), kMaxMessageBytes);
  iovec io{const_cast<uint8_t*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (memory_fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &memory_fd, sizeof(int));
  }
  for (;;) {
    if (::sendmsg(socket_.get(), &header, MSG_NOSIGNAL) >= 0) return OkStatus();
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
      return Unavailable("the other end of the channel is gone");
    if (errno == EAGAIN) return Unavailable("timed out: the other end does not read");
    return Internal("cannot send over the channel: errno {}", errno);
  }
}

namespace {

/// Takes ownership of every descriptor that came along, so that none stays open whatever is decided.
std::vector<FileDescriptor> TakeDescriptors(msghdr& header) {
  std::vector<FileDescriptor> out;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      out.emplace_back(fd);
    }
  }
  return out;
}

Status WaitReadable(int fd, int timeout_ms) {
  using std::chrono::steady_clock;
  const auto end = steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    int left = timeout_ms;
    if (timeout_ms > 0) {
      left = static_cast<int>(
          std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now()).count());
      if (left < 0) left = 0;
    }
    pollfd p{fd, POLLIN, 0};
    const int n = ::poll(&p, 1, left);
    if (n > 0) return OkStatus();
    if (n == 0) return Unavailable("timed out");
    if (errno != EINTR) return Internal("cannot wait on the channel: errno {}", errno);
  }
}

}  // namespace

StatusOr<std::pair<Bytes, FileDescriptor>> Channel::Receive(int timeout_ms) {
  if (timeout_ms >= 0) RETURN_IF_ERROR(WaitReadable(socket_.get(), timeout_ms));
  Bytes buffer(kMaxMessageBytes);
  iovec io{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t n;
  do {
    n = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == ECONNRESET) return Unavailable("the other end of the channel is gone");
    return Internal("cannot receive over the channel: errno {}", errno);
  }
  std::vector<FileDescriptor> descriptors = TakeDescriptors(header);
  if (n == 0) return Unavailable("the other end of the channel is gone");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return InvalidArgument("a message longer than {} bytes, or with too many descriptors", kMaxMessageBytes);
  if (descriptors.size() > 1)
    return InvalidArgument("expected at most one descriptor, got {}", descriptors.size());
  buffer.resize(static_cast<size_t>(n));
  FileDescriptor memory;
  if (!descriptors.empty()) memory = std::move(descriptors.front());
  return std::make_pair(std::move(buffer), std::move(memory));
}

namespace {
constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
}

StatusOr<FileDescriptor> SealFloats(std::span<const float> values) {
  FileDescriptor fd(::memfd_create("concordat", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make", "memory");
  if (::ftruncate(fd.get(), static_cast<off_t>(values.size_bytes())) != 0)
    return ErrnoStatus(errno, "cannot size", "memory");
  const auto* data = reinterpret_cast<const uint8_t*>(values.data());
  size_t done = 0;
  while (done < values.size_bytes()) {
    const ssize_t n = ::write(fd.get(), data + done, values.size_bytes() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot fill", "memory");
    done += static_cast<size_t>(n);
  }
  RETURN_IF_ERROR(SealMemory(fd.get()));
  return fd;
}

Status SealMemory(int fd, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (::fcntl(fd, F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    if (errno != EBUSY || std::chrono::steady_clock::now() > until)
      return ErrnoStatus(errno, "cannot seal", "memory");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<MappedFile>> OpenSealed(int fd, uint64_t expected) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals)
    return InvalidArgument("expected memory that is sealed against writing, growing and shrinking");
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> map, MappedFile::FromDescriptor(fd, "sealed memory"));
  if (expected > std::numeric_limits<uint64_t>::max() / sizeof(float) ||
      map->view().size() != expected * sizeof(float))
    return InvalidArgument("expected sealed memory of {} floats, got {} bytes", expected, map->view().size());
  return map;
}

}  // namespace concordat::sandbox
