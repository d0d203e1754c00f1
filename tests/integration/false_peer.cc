#include "tests/integration/false_peer.h"

#include <stdexcept>

#include "policy/charter.h"
#include "privacy/crypto/hash.h"
#include "privacy/secagg/mask.h"
#include "proto/wire.h"

namespace concordat::testing {
namespace {

template <typename T>
T Must(StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

}  // namespace

FalsePeer::FalsePeer(const Federation& federation, const std::string& jurisdiction, Options options)
    : options_(std::move(options)), jurisdiction_(jurisdiction), members_(federation.jurisdictions()) {
  charter_ = Must(policy::LoadSignedCharter((federation.root() / "charter.yaml").string()));
  const auto folder =
      options_.identity.empty() ? federation.Region(jurisdiction) / options_.role : options_.identity;
  identity_ = {Must(ReadTextFile(folder / "cert.pem")), Must(ReadTextFile(folder / "key.pem"))};
  key_ =
      std::make_unique<crypto::SigningKey>(Must(crypto::SigningKey::FromPem(AsBytes(identity_.private_key))));
  peers_ = std::make_unique<policy::CharterPeerVerifier>(charter_.charter);
  const auto& c = charter_.charter.coordinator;
  coordinator_ = std::make_unique<crypto::VerifyKey>(Must(crypto::VerifyKey::FromSpki(c.spki)));
  const auto channel = grpc::CreateChannel(
      federation.address(), tls::ClientCredentials(identity_, {c.root_pem, c.id, c.key_hash()}, clock_));
  stub_ = pb::Federation::NewStub(channel);
  context_.set_deadline(std::chrono::system_clock::now() + kPatience);
  stream_ = stub_->Session(&context_);
  thread_ = std::thread([this] { Run(); });
}

FalsePeer::~FalsePeer() {
  context_.TryCancel();
  if (thread_.joinable()) thread_.join();
}

grpc::Status FalsePeer::Wait() {
  if (thread_.joinable()) thread_.join();
  return status_;
}

std::vector<std::string> FalsePeer::refusals() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

void FalsePeer::Note(const std::string& text) {
  const std::lock_guard lock(mutex_);
  refusals_.push_back(text);
}

void FalsePeer::Run() {
  pb::WorkerMessage hello;
  hello.mutable_hello()->set_protocol(options_.protocol);
  hello.mutable_hello()->set_version("0.1.0");
  hello.mutable_hello()->set_charter(wire::BytesOf(charter_.hash));
  stream_->Write(hello);
  pb::CoordinatorMessage message;
  while (stream_->Read(&message)) On(message);
  status_ = stream_->Finish();
}

void FalsePeer::On(const pb::CoordinatorMessage& m) {
  const Instant now = clock_.Now();
  if (m.has_job_notice()) {
    job_ = Must(policy::ParseJob(m.job_notice().job_file(), "job"));
    const auto submitter = Must(policy::CheckPeer(charter_.charter, m.job_notice().submitter_chain(), now));
    pb::WorkerMessage answer;
    answer.mutable_job_answer()->set_job(
        wire::BytesOf(policy::JobIdOf(m.job_notice().job_file(), submitter.id)));
    answer.mutable_job_answer()->set_verdict(pb::JobAnswer::ELIGIBLE);
    stream_->Write(answer);
  } else if (m.has_offer()) {
    if (options_.misdeed == Misdeed::kNoAdvert) return;
    const auto offer = Must(wire::FromProto(m.offer()));
    secagg::WorkerBounds bounds;
    bounds.id = offer.body.id;
    bounds.charter = charter_.hash;
    bounds.base_model = offer.body.base_model;
    bounds.adapter = offer.body.adapter;
    bounds.elements = Must(policy::MaskedElements(job_));
    for (const std::string& j : members_) bounds.jurisdictions.insert(j);
    round_ = std::make_unique<secagg::WorkerRound>(Must(SpiffeId::Make(jurisdiction_, Role::kWorker, "site")),
                                                   *key_, *peers_, *coordinator_, random_, bounds, Digest{});
    Reply(round_->OnOffer(offer, now));
  } else if (m.has_keys() && round_) {
    Reply(round_->OnKeys(Must(wire::FromProto(m.keys())), now));
  } else if (m.has_delivery() && round_) {
    const auto delivery = Must(wire::FromProto(m.delivery()));
    Reply(round_->OnDelivery(delivery, now));
    if (options_.misdeed != Misdeed::kNoUpload) Upload(delivery.body.id);
  } else if (m.has_survivors() && round_) {
    Reply(round_->OnSurvivors(Must(wire::FromProto(m.survivors())), now));
  } else if (m.has_agreement_bundle() && round_) {
    Reply(round_->OnAgreementBundle(Must(wire::FromProto(m.agreement_bundle())), now));
  }
}

void FalsePeer::Reply(StatusOr<secagg::WorkerEffects> effects) {
  if (!effects.ok()) return Note(effects.status().ToString());
  if (!effects->send) return;
  pb::WorkerMessage out;
  std::visit(
      [&out](const auto& m) {
        using T = std::decay_t<decltype(m.body)>;
        if constexpr (std::is_same_v<T, secagg::Advert>) wire::ToProto(m, out.mutable_advert());
        if constexpr (std::is_same_v<T, secagg::Shares>) wire::ToProto(m, out.mutable_shares());
        if constexpr (std::is_same_v<T, secagg::Complaint>) wire::ToProto(m, out.mutable_complaint());
        if constexpr (std::is_same_v<T, secagg::InputHeader>) wire::ToProto(m, out.mutable_input_header());
        if constexpr (std::is_same_v<T, secagg::Agreement>) wire::ToProto(m, out.mutable_agreement());
        if constexpr (std::is_same_v<T, secagg::Unmask>) wire::ToProto(m, out.mutable_unmask());
      },
      *effects->send);
  stream_->Write(out);
  if (options_.misdeed != Misdeed::kHeaderTwice || !out.has_input_header()) return;
  secagg::InputHeader second = std::get<secagg::Signed<secagg::InputHeader>>(*effects->send).body;
  second.sha256 = crypto::Sha256(AsBytes("another vector"));
  pb::WorkerMessage again;
  wire::ToProto(secagg::Sign(*key_, std::move(second)), again.mutable_input_header());
  stream_->Write(again);
}

grpc::Status FalsePeer::Put(const AttemptId& id, ByteView bytes, uint64_t total, bool lie) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  pb::PutChunkRequest chunk;
  wire::ToProto(id, chunk.mutable_id());
  chunk.set_total(total);
  chunk.set_data(bytes.data(), bytes.size());
  chunk.set_sha256(wire::BytesOf(lie ? crypto::Sha256(AsBytes("something else")) : crypto::Sha256(bytes)));
  pb::PutChunkReply reply;
  grpc::Status status = stub_->PutChunk(&context, chunk, &reply);
  if (!status.ok()) Note(status.error_message());
  return status;
}

void FalsePeer::Upload(const AttemptId& id) {
  (void)round_->BeginInput(clock_.Now());
  std::vector<uint32_t> y(Must(policy::MaskedElements(job_)));
  const auto masks = Must(round_->TakeMasks());
  secagg::MaskStream(masks).Apply(0, y);
  const ByteView bytes(reinterpret_cast<const uint8_t*>(y.data()), y.size() * 4);
  AttemptId to = id;
  if (options_.misdeed == Misdeed::kWrongRound) ++to.round;
  const bool half = options_.misdeed == Misdeed::kWrongLength;
  const ByteView sent = half ? bytes.subspan(0, bytes.size() / 2) : bytes;
  if (!Put(to, sent, sent.size(), options_.misdeed == Misdeed::kWrongDigest).ok()) return;
  const bool false_header = options_.misdeed == Misdeed::kFalseHeader;
  Reply(round_->OnInput(y.size(), crypto::Sha256(false_header ? AsBytes("no such vector") : bytes),
                        clock_.Now()));
}

}  // namespace concordat::testing
