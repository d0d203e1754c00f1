#include "worker/rpc/worker_journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/canonical_attempt.h"
#include "privacy/crypto/hash.h"

namespace concordat::worker {
namespace {

constexpr std::string_view kMagic = "CNCWJNL1";
constexpr std::string_view kTag = "concordat/v1/worker-journal";
constexpr size_t kCheckBytes = 8;
constexpr size_t kMaxBody = 256 << 10;
constexpr size_t kUsualBody = 512;

enum class Kind : uint8_t {
  kEntered = 1,
  kBegun = 2,
  kVerified = 3,
  kDecision = 4,
  kHalted = 5,
  kStep = 6,
  kLeft = 7,
  kResult = 8,
  kWitness = 9
};

void Start(CanonicalWriter& out, Kind kind) { out.U8(static_cast<uint8_t>(kind)); }

void Write(CanonicalWriter& out, const AttemptEntered& r) {
  Start(out, Kind::kEntered);
  Put(out, r.id);
}
void Write(CanonicalWriter& out, const InputBegun& r) {
  Start(out, Kind::kBegun);
  Put(out, r.id);
}
void Write(CanonicalWriter& out, const AdapterVerified& r) {
  Start(out, Kind::kVerified);
  out.Put(r.job);
  out.U32(r.round);
  out.Put(r.adapter);
}
void Write(CanonicalWriter& out, const DecisionTaken& r) {
  Start(out, Kind::kDecision);
  out.Put(r.job);
  out.U8(static_cast<uint8_t>(r.decision));
}
void Write(CanonicalWriter& out, const JobHalted& r) {
  Start(out, Kind::kHalted);
  out.Put(r.job);
}

void Write(CanonicalWriter& out, const StepTaken& r) {
  Start(out, Kind::kStep);
  Put(out, r.id);
  out.U8(r.phase);
  out.Put(r.state);
}
void Write(CanonicalWriter& out, const AttemptLeft& r) {
  Start(out, Kind::kLeft);
  Put(out, r.id);
}

void Write(CanonicalWriter& out, const ResultSaid& r) {
  Start(out, Kind::kResult);
  const secagg::Result& body = r.message.body;
  Put(out, body.id);
  out.Put(body.t2);
  out.Count(body.survivors.size());
  for (const SiteIndex site : body.survivors) out.U8(site);
  out.Put(body.sum_sha256);
  out.Put(body.new_adapter);
  out.Raw(r.message.signature);
}

crypto::Signature GetSignature(CanonicalReader& in) {
  crypto::Signature out{};
  const ByteView bytes = in.Raw(out.size());
  if (in.status().ok()) std::ranges::copy(bytes, out.begin());
  return out;
}

void Write(CanonicalWriter& out, const LedgerWitness& r) {
  Start(out, Kind::kWitness);
  Put(out, r.id);
  out.Put(r.bundle);
  out.Count(r.signatures.size());
  for (const auto& [site, signature] : r.signatures) {
    out.U8(site);
    out.Raw(signature);
  }
  policy::WriteMark(out, r.mark);
}

StatusOr<LedgerWitness> GetWitness(CanonicalReader& in) {
  LedgerWitness out;
  out.id = GetAttempt(in);
  out.bundle = in.Hash();
  const size_t signatures = in.Count(kMaxSites);
  for (size_t i = 0; i < signatures && in.status().ok(); ++i) {
    const SiteIndex site = in.U8();
    out.signatures.emplace_back(site, GetSignature(in));
  }
  ASSIGN_OR_RETURN(out.mark, policy::ReadMark(in));
  return out;
}

ResultSaid GetResult(CanonicalReader& in) {
  ResultSaid out;
  secagg::Result& body = out.message.body;
  body.id = GetAttempt(in);
  body.t2 = in.Hash();
  const size_t survivors = in.Count(kMaxSites);
  for (size_t i = 0; i < survivors && in.status().ok(); ++i) body.survivors.push_back(in.U8());
  body.sum_sha256 = in.Hash();
  body.new_adapter = in.Hash();
  out.message.signature = GetSignature(in);
  return out;
}

Decision GetDecision(CanonicalReader& in) {
  const uint8_t decision = in.U8();
  if (decision > static_cast<uint8_t>(Decision::kResume)) in.Fail("an unknown decision");
  return static_cast<Decision>(decision);
}

/// Adds the record in `body` to `records`. When that fails, what was added, if anything, means nothing.
Status Parse(ByteView body, std::vector<Record>& records) {
  CanonicalReader in(body);
  switch (static_cast<Kind>(in.U8())) {
    case Kind::kEntered:
      records.emplace_back(AttemptEntered{GetAttempt(in)});
      break;
    case Kind::kBegun:
      records.emplace_back(InputBegun{GetAttempt(in)});
      break;
    case Kind::kVerified: {
      const Digest job = in.Hash();
      const RoundIndex round = in.U32();
      records.emplace_back(AdapterVerified{job, round, in.Hash()});
      break;
    }
    case Kind::kDecision: {
      const Digest job = in.Hash();
      records.emplace_back(DecisionTaken{job, GetDecision(in)});
      break;
    }
    case Kind::kHalted:
      records.emplace_back(JobHalted{in.Hash()});
      break;
    case Kind::kStep: {
      const AttemptId id = GetAttempt(in);
      const uint8_t phase = in.U8();
      records.emplace_back(StepTaken{id, phase, in.Hash()});
      break;
    }
    case Kind::kLeft:
      records.emplace_back(AttemptLeft{GetAttempt(in)});
      break;
    case Kind::kResult:
      records.emplace_back(GetResult(in));
      break;
    case Kind::kWitness: {
      ASSIGN_OR_RETURN(LedgerWitness witness, GetWitness(in));
      records.emplace_back(std::move(witness));
      break;
    }
    default:
      in.Fail("an unknown kind of record");
  }
  return in.Finish();
}

Bytes CheckOf(ByteView body) {
  const Digest digest = crypto::TaggedHash(kTag, body);
  return Bytes(digest.bytes.begin(), digest.bytes.begin() + kCheckBytes);
}

Digest Chain(const Digest& head, ByteView body) {
  CanonicalWriter out;
  out.Put(head);
  out.Raw(body);
  return crypto::TaggedHash("concordat/v1/worker-journal-chain", out.bytes());
}

}  // namespace

/// Reads the records of `content`; size_ is where the last whole one ends. \param head_there the chain's head
/// after `anchored` records
Status WorkerJournal::ReadAll(ByteView content, uint64_t anchored, Digest* head_there) {
  size_t at = kMagic.size();
  size_ = at;
  while (at < content.size()) {
    if (content.size() - at < 4) return OkStatus();  // cut off while it was written
    const uint32_t size = static_cast<uint32_t>(content[at]) | static_cast<uint32_t>(content[at + 1]) << 8 |
                          static_cast<uint32_t>(content[at + 2]) << 16 |
                          static_cast<uint32_t>(content[at + 3]) << 24;
    if (size > kMaxBody) return DataLoss("{}: a record of {} bytes at byte {}", path_.string(), size, at);
    if (content.size() - at - 4 < size + kCheckBytes) return OkStatus();
    const ByteView body = content.subspan(at + 4, size);
    const ByteView check = content.subspan(at + 4 + size, kCheckBytes);
    if (!ConstantTimeEqual(check, CheckOf(body)) || !Parse(body, records_).ok())
      return DataLoss("{}: the record at byte {} does not verify", path_.string(), at);
    end_ = {end_.count + 1, Chain(end_.head, body)};
    if (end_.count == anchored) *head_there = end_.head;
    at += 4 + size + kCheckBytes;
    size_ = at;
  }
  return OkStatus();
}

Status WorkerJournal::CheckAnchor(const std::optional<AnchorPoint>& anchor, const Digest& head_there,
                                  bool accept) {
  // A journal gets its anchor before its first record, so one with records has had an anchor.
  if (!anchor && end_.count == 0) return WriteAnchor(anchor_path_, end_);
  if (!anchor && !accept)
    return FailedPrecondition(
        "{}: has {} records, and its anchor {} is not there: the journal may have been put back from a copy, "
        "and "
        "rounds that it has forgotten must not be gone on with. Mount or put back the anchor; if it is lost, "
        "start once with --accept-rollback to drop the open rounds",
        path_.string(), end_.count, anchor_path_.string());
  if (anchor && anchor->count <= end_.count && anchor->head == head_there) return OkStatus();
  if (!accept)
    return FailedPrecondition(
        "{}: older than its anchor {} ({} records, {} are anchored): it was put back from a copy. Rounds "
        "that it "
        "has forgotten must not be gone on with: start once with --accept-rollback to drop them",
        path_.string(), anchor_path_.string(), end_.count, anchor->count);
  rolled_back_ = true;
  return WriteAnchor(anchor_path_, end_);
}

StatusOr<std::unique_ptr<WorkerJournal>> WorkerJournal::Open(const std::filesystem::path& path,
                                                             const std::filesystem::path& anchor,
                                                             bool accept_rollback) {
  std::unique_ptr<WorkerJournal> journal(new WorkerJournal());
  journal->path_ = path;
  journal->anchor_path_ = anchor;
  ASSIGN_OR_RETURN(const std::optional<AnchorPoint> point, ReadAnchor(anchor));
  auto content = ReadFile(path, uint64_t{1} << 30);
  if (!content.ok() && content.status().code() != StatusCode::kNotFound) return content.status();
  if (!content.ok()) {
    RETURN_IF_ERROR(WriteFileAtomically(path, kMagic, 0600));
    content = ToBytes(AsBytes(kMagic));
  }
  if (content->size() < kMagic.size() || AsText(*content).substr(0, kMagic.size()) != kMagic)
    return DataLoss("{}: no journal of a worker", path.string());
  Digest head_there;
  RETURN_IF_ERROR(journal->ReadAll(*content, point ? point->count : 0, &head_there));
  RETURN_IF_ERROR(journal->CheckAnchor(point, head_there, accept_rollback));
  journal->file_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!journal->file_.valid()) return ErrnoStatus(errno, "cannot open", path);
  if (journal->size_ < content->size() &&
      ::ftruncate(journal->file_.get(), static_cast<off_t>(journal->size_)) != 0)
    return ErrnoStatus(errno, "cannot cut", path);
  return journal;
}

Status WorkerJournal::Append(std::span<const Record> records) {
  if (broken_) return DataLoss("{}: an earlier write failed", path_.string());
  CanonicalWriter out;
  AnchorPoint end = end_;
  for (const Record& record : records) {
    CanonicalWriter body;
    body.Reserve(kUsualBody);
    std::visit([&](const auto& r) { Write(body, r); }, record);
    out.Blob(body.bytes());
    out.Raw(CheckOf(body.bytes()));
    end = {end.count + 1, Chain(end.head, body.bytes())};
  }
  size_t done = 0;
  const Bytes& bytes = out.bytes();
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(file_.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(size_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Status status = ErrnoStatus(errno, "cannot write", path_);
      broken_ = ::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0;
      return status;
    }
    done += static_cast<size_t>(n);
  }
  if (::fdatasync(file_.get()) != 0) {
    broken_ = true;  // after a failed sync the page cache says nothing about the disk
    return ErrnoStatus(errno, "cannot sync", path_);
  }
  size_ += bytes.size();
  end_ = end;
  return WriteAnchor(anchor_path_, end_);
}

}  // namespace concordat::worker
