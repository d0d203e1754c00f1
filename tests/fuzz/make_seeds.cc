// Writes the seed corpora that are made by code, the same bytes each time: fuzz_seeds FOLDER
// (tests/fuzz/corpus). Run it after a format or a machine's choices have changed; seeds that a fuzzer has
// found stay as they are.
#include <openssl/x509.h>

#include <array>
#include <set>

#include "aggregation/adapter_blob.h"
#include "aggregation/adapter_steps.h"
#include "aggregation/peft.h"
#include "aggregation/safetensors.h"
#include "cli/evaluation.h"
#include "cli/released_privacy.h"
#include "common/anchor.h"
#include "coordinator/rpc/convert.h"
#include "policy/job_privacy.h"
#include "policy/ledger.h"
#include "policy/ledger_statement.h"
#include "policy/pairwise_key_files.h"
#include "policy/receipts.h"
#include "privacy/crypto/x509.h"
#include "tests/fuzz/attempt_script.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/worker/model/gguf_builder.h"
#include "worker/core/round_state.h"
#include "worker/rpc/convert.h"
#include "worker/rpc/worker_journal.h"
#include "worker/sandbox/channel.h"

namespace concordat::fuzz {
namespace {

namespace fs = std::filesystem;

/// The corpus folder of one target.
class Corpus {
 public:
  Corpus(const fs::path& root, const std::string& target) : folder_(root / target) {
    fs::create_directories(folder_);
  }
  void Add(const std::string& name, ByteView content) const {
    Must(WriteFileAtomically(folder_ / name, content).ok(), "a seed is written");
  }
  void Add(const std::string& name, std::string_view content) const { Add(name, AsBytes(content)); }

 private:
  fs::path folder_;
};

template <typename T>
T Ok(StatusOr<T> value) {
  if (!value.ok()) std::fprintf(stderr, "%s\n", ToString(value.status()).c_str());
  Must(value.ok(), "a seed can be made");
  return *std::move(value);
}
Bytes Join(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}
Bytes Sized(ByteView body) {
  Bytes out{static_cast<uint8_t>(body.size()), static_cast<uint8_t>(body.size() >> 8)};
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

// ---- Machines: see the choices in worker_round_fuzz.cc and coordinator_round_fuzz.cc.

const std::array<const char*, 4> kModeNames{"plain", "p256", "pairwise", "p256-pairwise"};

void ModesOfWorkers(const Corpus& corpus) {
  for (uint8_t mode = kP256; mode <= kP256Pairwise; ++mode) {
    const Bytes first{kModeBytes[mode]};
    const auto add = [&](const char* name, const Bytes& moves) {
      corpus.Add(fmt::format("{}-{}", kModeNames[mode], name), Join({first, moves}));
    };
    add("honest", Bytes(12, 0));
    add("honest-one-lost", Join({{2}, Bytes(12, 0)}));
    add("restarts", Bytes{0, 5, 0, 5, 0, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5});
    // A delivery with its tags taken away, repeated, one more, one changed; then the true one.
    for (uint8_t edit = 0; edit < 4; ++edit)
      add(fmt::format("tags-{}", edit).c_str(),
          Join({{0, 0, 8, 2, 0, 0, 250, edit, 1, 1, 5, 9, 0}, Bytes(12, 0)}));
  }
}

void WorkerRounds(const fs::path& root) {
  const Corpus corpus(root, "worker_round_fuzz");
  ModesOfWorkers(corpus);
  corpus.Add("honest", Bytes(12, 0));
  corpus.Add("honest-one-lost", Join({{2}, Bytes(12, 0)}));
  corpus.Add("restarts", Bytes{0, 5, 0, 5, 0, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5});
  corpus.Add("restart-between-masks-and-input", Bytes{0, 0, 0, 0, 4, 0, 5, 4, 1, 4, 3, 37, 4, 2, 0, 0});
  corpus.Add("input-twice", Bytes{0, 0, 0, 0, 4, 0, 4, 0, 4, 1, 4, 1, 4, 3, 37, 4, 2, 4, 3, 36, 0, 0, 0, 0});
  corpus.Add("two-survivor-sets", Bytes{0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 3, 2, 3, 3, 0, 3, 4, 2, 3, 4, 0, 0});
  corpus.Add("late", Bytes{0, 0, 0, 0, 6, 255, 6, 255, 0, 0, 0});
  corpus.Add("erased", Bytes{0, 0, 0, 0, 0, 7, 7, 0, 5, 0, 0});
  for (uint8_t step = 0; step < 6; ++step) {
    // The steps before, an edited message of this one, the true ones that follow.
    const size_t before = step + (step > 2 ? 3u : 0u);
    for (uint8_t edit = 0; edit < 3; ++edit) {
      corpus.Add(fmt::format("edited-{}-{}", step, edit),
                 Join({Bytes(before, 0), {8, step, 0, edit, 1, 2, 3, 0}, Bytes(12, 0)}));
    }
  }
}

void ModesOfCoordinators(const Corpus& corpus) {
  const Bytes to_input(16, 0);  // four adverts, four shares
  for (uint8_t mode = kP256; mode <= kP256Pairwise; ++mode) {
    const Bytes first{kModeBytes[mode]};
    const auto add = [&](const char* name, const Bytes& moves) {
      corpus.Add(fmt::format("{}-{}", kModeNames[mode], name), Join({first, moves}));
    };
    Bytes restarts;
    for (int i = 0; i < 20; ++i) restarts.insert(restarts.end(), {6, 0, 0});
    add("honest", Bytes(56, 0));
    add("honest-one-lost", Join({to_input, {3, 3}, Bytes(40, 0)}));
    add("restarts", restarts);
    // Shares with their seals taken away, one repeated, one more, one changed; then site 4 is lost, so that
    // its seals are opened.
    for (uint8_t edit = 0; edit < 4; ++edit)
      add(fmt::format("seals-{}", edit).c_str(),
          Join({Bytes(8, 0), {8, 1, 3, 0, 250, edit, 1, 1, 40, 9, 0}, Bytes(8, 0), {3, 3}, Bytes(40, 0)}));
  }
}

void CoordinatorRounds(const fs::path& root) {
  const Corpus corpus(root, "coordinator_round_fuzz");
  ModesOfCoordinators(corpus);
  const Bytes to_input(16, 0);  // four adverts, four shares
  corpus.Add("honest", Bytes(56, 0));
  corpus.Add("honest-one-lost", Join({to_input, {3, 3}, Bytes(40, 0)}));
  corpus.Add("one-lost-before-shares", Join({Bytes(8, 0), {3, 3}, Bytes(48, 0)}));
  corpus.Add("one-lost-before-adverts", Join({{3, 0}, Bytes(56, 0)}));
  corpus.Add("too-few", Bytes{3, 0, 3, 1, 0, 0, 5, 3, 6, 0, 0});
  Bytes restarts;
  for (int i = 0; i < 20; ++i) restarts.insert(restarts.end(), {6, 0, 0});
  corpus.Add("restarts", restarts);
  corpus.Add("restarts-in-input",
             Join({to_input, {0, 0, 0, 6, 0, 0, 0, 6, 3, 3, 6, 0, 0, 0, 6, 0, 0, 6, 0, 0}}));
  corpus.Add("deadlines", Join({Bytes(6, 0), {5, 3, 0, 0, 0, 0, 0, 0, 5, 3, 6}, Bytes(20, 0)}));
  corpus.Add("complaint", Join({to_input, {2, 5, 0, 1, 6, 0, 0}}));
  corpus.Add("cancelled", Join({to_input, {7, 7, 6, 0, 0}}));
  corpus.Add("rejoins", Join({{4, 0, 4, 1, 0, 0, 3, 1, 4, 2}, Bytes(6, 0), {4, 2, 4, 5}, Bytes(30, 0)}));
  corpus.Add("wrong-upload",
             Join({to_input, {2, 2, 0, 6, 2, 2, 0, 7, 2, 2, 0, 0, 2, 2, 0, 0}, Bytes(24, 0)}));
  for (uint8_t step = 0; step < 6; ++step) {
    static constexpr std::array<size_t, 6> kBefore{0, 8, 16, 28, 34, 16};
    for (uint8_t edit = 0; edit < 3; ++edit) {
      corpus.Add(fmt::format("edited-{}-{}", step, edit),
                 Join({Bytes(kBefore[step], 0), {8, step, 1, 0, edit, 1, 2, 0}, Bytes(40, 0)}));
    }
  }
}

void SecaggRecords(const fs::path& root) {
  const Corpus corpus(root, "secagg_records_fuzz");
  std::vector<Bytes> records = TheScript(true).log;
  records.push_back(EncodeEvent({9, At(5), CoordinatorPhase::kShares, LogStepClosed{}}));
  records.push_back(EncodeEvent(
      {9, At(5), CoordinatorPhase::kAborted, LogEnded{{Aborted::Code::kConvicted, 0, 3, "site 3"}}}));
  std::set<size_t> kinds;
  for (const Bytes& record : records) {
    const size_t kind = DecodeEvent(record).value().what.index();
    if (kinds.insert(kind).second) corpus.Add(fmt::format("record-{}", kind), Join({{0}, record}));
  }
  const auto& snapshots = TheScript(true).snapshots;
  for (const size_t i : {size_t{0}, size_t{2}, snapshots.size() - 1})
    corpus.Add(fmt::format("snapshot-{}", i), Join({{1}, snapshots[i]}));
  for (uint8_t i = 0; i < snapshots.size(); ++i)
    corpus.Add(fmt::format("edited-snapshot-{}", i), Bytes{2, 1, i, 0, 77, 1, 16, 200, 2, 64});
  const Script& pairwise = TheScript(true, kPairwise);
  corpus.Add("pairwise-snapshot", Join({{kModeBytes[kPairwise], 1}, pairwise.snapshots.back()}));
  const auto dealt = std::ranges::find_if(pairwise.log, [](const Bytes& record) {
    return std::holds_alternative<Signed<Shares>>(DecodeEvent(record).value().what);
  });
  corpus.Add("pairwise-record", Join({{0}, *dealt}));
  for (uint8_t mode = kP256; mode <= kP256Pairwise; ++mode) {
    const uint8_t first = kModeBytes[mode];
    corpus.Add(fmt::format("{}-log", kModeNames[mode]), Bytes{first, 3, 1});
    corpus.Add(fmt::format("{}-log-flipped", kModeNames[mode]), Bytes{first, 3, 1, 1, 6, 255, 1, 4});
    corpus.Add(fmt::format("{}-edited-snapshot", kModeNames[mode]), Bytes{first, 2, 1, 2, 0, 77, 1, 16});
  }
  corpus.Add("log", Bytes{3, 1});
  corpus.Add("log-one-record-less", Bytes{3, 1, 0, 4, 0});
  corpus.Add("log-two-swapped", Bytes{3, 0, 0, 2, 2, 3});
  corpus.Add("log-instant-without-end", Bytes{3, 1, 1, 2, 12, 0, 0x7f});
  for (uint8_t i = 0; i < 4; ++i) corpus.Add(fmt::format("log-flipped-{}", i), Bytes{3, 1, 1, i, 60, 0, 4});
}

// ---- The wire.

void Wire(const fs::path& root) {
  const Corpus corpus(root, "wire_fuzz");
  const Script& s = TheScript(true);
  const AttemptId id = s.offer.body.id;
  const Complaint complaint{id, 2, 3, s.shares.at(1).body.t1, Complaint::Code::kCommitmentMismatch};
  const std::vector<worker::ToCoordinator> said{
      s.adverts.at(1),
      s.shares.at(2),
      s.headers.at(3),
      s.agreements.at(1),
      s.unmasks.at(2),
      Sign(TheWorld().sites[1].key, complaint),
      worker::JobAnswer{id.job, worker::Verdict::kRefused, {policy::RuleCode::kSubmitter}, 4096, 0.5, 1, 4},
      worker::Progress{id, worker::Phase::kTraining, 512},
      worker::Dropout{id, worker::DropoutCode::kProtocolViolation, RefusalCode::kTranscript},
      worker::ResultAck{id, DigestFor("new adapter")},
      worker::EvaluationCell{DigestFor("request"), worker::CellState::kReleased, {1'250'000, -3}, {}, 0.25},
      worker::Pong{7}};
  for (size_t i = 0; i < said.size(); ++i)
    corpus.Add(fmt::format("worker-{}", i), worker::ToWire(said[i]).SerializeAsString());

  const auto shared = [](const auto& m) { return std::make_shared<const CoordinatorMessage>(m); };
  const auto job = std::make_shared<const policy::SignedJob>(policy::SignedJob{"name: a\n", {}, "chain\n"});
  const std::vector<coordinator::ToWorkerMessage> told{
      shared(s.offer),
      shared(s.keys),
      shared(s.deliveries.at(1)),
      shared(s.survivors),
      shared(s.bundle),
      shared(s.result),
      coordinator::JobNotice{job, true, 2},
      coordinator::AttemptAborted{id, coordinator::AbortReason::kTooFewInputs},
      coordinator::JobEnded{id.job, coordinator::JobPhase::kDone, DigestFor("new adapter")},
      coordinator::EvaluationRequest{DigestFor("request"), id.job, {Digest{}, DigestFor("adapter")}, 100, 3}};
  for (size_t i = 0; i < told.size(); ++i)
    corpus.Add(fmt::format("coordinator-{}", i), coordinator::ToProto(told[i]).SerializeAsString());
  const Script& pairwise = TheScript(true, kPairwise);
  corpus.Add("worker-pairwise", worker::ToWire(pairwise.shares.at(2)).SerializeAsString());
  corpus.Add("coordinator-pairwise",
             coordinator::ToProto(shared(pairwise.deliveries.at(1))).SerializeAsString());
}

// ---- Files of nodes.

std::vector<worker::Record> JournalRecords() {
  const Script& s = TheScript(true);
  const AttemptId id = s.offer.body.id;
  worker::LedgerWitness witness{id, DigestFor("bundle"), s.bundle.body.signatures, {}};
  witness.mark = {"manuals", 3, 0, DigestFor("head"), 2.5, {}};
  LedgerCharge charge;
  Must(charge.price.Add({1, 1, 4, 1, 1, 3}).ok(), "a price");
  policy::AddToTotals(witness.mark.totals, charge);
  return {worker::AttemptEntered{id},
          worker::InputBegun{id},
          worker::AdapterVerified{id.job, 2, DigestFor("adapter")},
          worker::DecisionTaken{id.job, worker::Decision::kPause},
          worker::JobHalted{id.job},
          worker::StepTaken{id, 6, DigestFor("state")},
          worker::ResultSaid{s.result},
          witness,
          worker::AttemptLeft{id}};
}

void WorkerStore(const fs::path& root) {
  const Corpus corpus(root, "worker_store_fuzz");
  const Script& s = TheScript(true);
  const AttemptId id = s.offer.body.id;
  const std::map<std::string, worker::Evidence> accepted{
      {"offer", {id, "offer", Canonical(s.offer.body), s.offer.signature}},
      {"survivors", {id, "survivors", Canonical(s.survivors.body), s.survivors.signature}}};
  const auto state = worker::EncodeRoundState(id, WorkerPhase::kAdvertised, s.offer.signature, accepted,
                                              s.snapshots.front());
  corpus.Add("round-state", Join({{0}, ToBytes(state.view())}));

  const concordat::testing::TempDir folder;
  auto journal = Ok(worker::WorkerJournal::Open(folder / "journal", folder / "anchor"));
  Must(journal->Append(JournalRecords()).ok(), "a journal is written");
  const Bytes file = Ok(ReadFile(folder / "journal"));
  corpus.Add("journal-file", Join({{2}, file}));
  corpus.Add("journal-file-torn", Join({{2}, Bytes(file.begin(), file.end() - 20)}));
  Bytes all{1};
  for (size_t at = 8, i = 0; at < file.size(); ++i) {
    const size_t size = file[at] | file[at + 1] << 8;
    const Bytes body = Sized(ByteView(file).subspan(at + 4, size));
    all.insert(all.end(), body.begin(), body.end());
    corpus.Add(fmt::format("journal-record-{}", i), Join({{1}, body}));
    at += 4 + size + 8;
  }
  corpus.Add("journal-records", all);
}

/// See the choices in spool_fuzz.cc: two bytes of size, number of notes, notes, changes of the file, its end,
/// sizes of the chunks that are sent.
void Spools(const fs::path& root) {
  const Corpus corpus(root, "spool_fuzz");
  const Bytes kilobyte{0xff, 0x03};
  const Bytes first{0, 0, 0, 0, 2}, third{0, 0, 2, 0, 1}, all{0, 0, 0, 0, 4};
  corpus.Add("nothing-noted", Join({kilobyte, {0, 0, 0, 1, 2}}));
  corpus.Add("prefix", Join({kilobyte, {1}, first, {0, 0, 2}}));
  corpus.Add("prefix-and-a-piece", Join({kilobyte, {2}, third, first, {0, 0, 1, 2}}));
  corpus.Add("whole", Join({kilobyte, {1}, all, {0, 0}}));
  corpus.Add("a-byte-lost", Join({kilobyte, {2}, first, third, {1, 4, 0, 255, 0, 2}}));
  corpus.Add("file-cut", Join({kilobyte, {2}, first, third, {0, 3, 0, 1, 2}}));
  corpus.Add("noise", Join({kilobyte, {2, 3}, Bytes(48, 0xff), first, {0, 0, 2}}));
  corpus.Add("torn-note", Join({kilobyte, {2}, first, {3}, Bytes(20, 1)}));
}

// ---- Lines, adapters, certificates.

void Lines(const fs::path& root) {
  const Corpus corpus(root, "lines_fuzz");
  const concordat::testing::TempDir folder;
  const AttemptId id = TheWorld().offer.id;
  const auto ledger = Ok(policy::Ledger::Open(folder / "ledger", "manuals",
                                              {PrivacyUnit::kSite, Neighbour::kZeroOut, 1000, 1e-5},
                                              policy::BudgetPeriod::kNone));
  LedgerCharge charge;
  charge.attempt = id;
  Must(charge.price.Add({1, 1, 4, 1, 1, 3}).ok(), "a price");
  corpus.Add("ledger", policy::FormatLedgerLine(Ok(ledger->Charge(At(0), charge))));
  CanonicalWriter mark;
  policy::WriteMark(mark, ledger->Mark());
  corpus.Add("mark", mark.bytes());
  policy::Receipt receipt;
  receipt.time = At(0);
  receipt.worker = TheWorld().sites[0].id;
  receipt.attempt = id;
  receipt.kind = policy::ArtefactKind::kDelta;
  receipt.bytes = 4000;
  receipt.rule = policy::RuleCode::kArtefactDelta;
  receipt.basis = policy::LegalBasis::kStandardClauses;
  receipt.from = "law0";
  receipt.to = "law1";
  receipt.epsilon_charged = 1.25;
  receipt.sandbox = policy::SandboxState::kEnforced;
  const auto signature = TheWorld().sites[0].key.Sign(policy::Receipt::kDomain, policy::Canonical(receipt));
  corpus.Add("receipt", policy::FormatReceiptLine({receipt, signature}));
  corpus.Add("identity", TheWorld().sites[0].id.ToString());
  corpus.Add("instant", FormatInstant(At(0)));
  corpus.Add("hex", id.job.hex());
}

void Adapters(const fs::path& root) {
  const Corpus corpus(root, "adapter_fuzz");
  const ModelShape shape{1, 8, 12, 2, 1, 4};
  const LoraSpec spec{1, 2, {LoraTarget::kQ, LoraTarget::kV}, LoraMethod::kFedIt};
  const AdapterLayout layout = Ok(AdapterLayout::Make(shape, spec));
  std::vector<float> weights(layout.adapter_elements());
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i) / 8 - 1;
  const AdapterBlob blob{DigestFor("job"), 2, DigestFor("parent"), LayoutDigest(layout), weights};
  corpus.Add("blob", EncodeAdapterBlob(blob));
  const std::string config = PeftConfig(layout, "tiny");
  corpus.Add("peft", Join({Sized(AsBytes(config)), Ok(PeftWeights(layout, weights))}));
  LoraSpec core_spec = spec;
  core_spec.method = LoraMethod::kCore;
  const AdapterLayout core = Ok(AdapterLayout::Make(shape, core_spec));
  std::vector<float> cores(core.adapter_elements());
  for (size_t i = 0; i < cores.size(); ++i) cores[i] = static_cast<float>(i) / 8 - 1;
  corpus.Add("blob-core",
             EncodeAdapterBlob({DigestFor("job"), 2, DigestFor("parent"), LayoutDigest(core), cores}));

  const Corpus tensors(root, "safetensors_fuzz");
  tensors.Add("adapter", Ok(PeftWeights(layout, weights)));
  const Bytes data(16, 1);
  tensors.Add("kinds", Ok(WriteSafetensors({{"a", "F32", {2, 2}, data},
                                            {"b", "BF16", {2, 1, 2}, ByteView(data).first(8)},
                                            {"c", "U8", {0}, {}}},
                                           {{"about", "a seed"}})));
}

// ---- Files of regions, released adapters, folders of models.

void KeyFiles(const Corpus& corpus) {
  const concordat::testing::TempDir folder;
  crypto::CtrRandom random(secagg::testing::SeedFor("key files"));
  const auto& sites = TheWorld().sites;
  Bytes all;
  for (size_t peer = 1; peer <= 2; ++peer) {
    const auto file = folder / fmt::format("{}.key", peer);
    Must(policy::MakePairwiseKeyFile(file, sites[0].id, sites[peer].id, random).ok(), "a key is made");
    all = Join({all, Sized(Ok(ReadFile(file)))});
  }
  const Bytes one(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2));
  corpus.Add("keys", Join({{0}, all}));
  corpus.Add("keys-same-peer", Join({{0}, one, one}));
  Bytes torn(one.begin() + 2, one.end() - 9), other = one;
  other[30] ^= 1;
  corpus.Add("keys-torn", Join({{0}, Sized(torn)}));
  corpus.Add("keys-other-worker", Join({{0}, other}));
}

policy::SignedLedgerStatement StatementOf(const policy::Ledger& ledger, const JobId& job,
                                          const Digest& charter, const std::string& chain) {
  policy::LedgerStatement body;
  body.charter = charter;
  body.worker = TheWorld().sites[0].id;
  body.job = job;
  body.dataset = "manuals";
  body.delta = 1e-5;
  body.issued = At(0);
  body.rows = Ok(policy::StatementRows(ledger.entries(), job));
  body.head = body.rows.back().hash;
  return policy::SignLedgerStatement(std::move(body), TheWorld().sites[0].key, chain);
}

std::string LeafPem() {
  crypto::CtrRandom random(secagg::testing::SeedFor("certificates"));
  const auto key = crypto::SigningKey::FromSeed(secagg::testing::SeedFor("root"));
  const auto& site = TheWorld().sites[0];
  const auto end = At(int64_t{86'400'000} * 365);
  const auto root = Ok(crypto::MakeRootCertificate(key, site.id.jurisdiction(), At(-1000), end, random));
  return Ok(crypto::IssueLeaf(
      key, root, {site.id, site.key.Public().spki(), {"site.example"}, {"127.0.0.1"}, At(-1000), end},
      random));
}

/// A round of configs/job.yaml in whose sum site 1 is.
cli::ChainRecord OneRound(const std::string& job_file) {
  cli::ChainRecord record;
  record.job = DigestFor("job");
  record.submitter = "spiffe://law0/operator/anne";
  record.job_file = job_file;
  record.initial_adapter = DigestFor("first");
  record.rounds = {{0,
                    0,
                    DigestFor("adapter"),
                    DigestFor("first"),
                    DigestFor("sum"),
                    {TheWorld().sites[0].id.ToString()},
                    {}}};
  return record;
}

void Evaluations(const Corpus& corpus) {
  cli::Evaluation e;
  e.job = DigestFor("job");
  e.name = "manuals";
  e.models = {"base", "federated"};
  e.adapters = {Digest{}, DigestFor("adapter")};
  e.regions = {"spiffe://law0/worker/w1", "spiffe://law1/worker/w2"};
  e.epsilon_charged = {0.25, 0};
  using enum cli::Cell::State;
  e.cells = {{{kReleased, 1.5, 0.01}, {kWithheld, 0, 0, 521}}, {{kReleased, 1.6, 0.01}, {kNoAnswer}}};
  const std::string text = cli::ToJson(e).dump();
  corpus.Add("evaluation", Join({{2}, ToBytes(AsBytes(text))}));
  std::string numbered = text;
  const std::string_view state = R"("state":"released")";
  numbered.replace(numbered.find(state), state.size(), R"("state":1)");
  corpus.Add("evaluation-state-not-text", Join({{2}, ToBytes(AsBytes(numbered))}));
  corpus.Add("evaluation-empty",
             Join({{2},
                   ToBytes(AsBytes(
                       std::string_view(R"({"job":")" + e.job.hex() + R"(","regions":[],"models":[]})")))}));
}

void Released(const fs::path& root) {
  const Corpus files(root, "region_files_fuzz"), corpus(root, "released_fuzz");
  const concordat::testing::TempDir folder;
  const std::string job_file = Ok(ReadTextFile("configs/job.yaml"));
  const policy::JobSpec job = Ok(policy::ParseJob(job_file, "job.yaml"));
  const cli::ChainRecord record = OneRound(job_file);
  const auto anchor = folder / "anchor";
  const auto ledger = Ok(policy::Ledger::Open(folder / "ledger", "manuals",
                                              {PrivacyUnit::kSite, Neighbour::kZeroOut, 1000, 1e-5},
                                              policy::BudgetPeriod::kNone, anchor));
  Must(ledger->Charge(At(0), Ok(policy::RoundCharge(job, {record.job, 0, 0}, 3))).ok(), "a charge");
  const auto statement = StatementOf(*ledger, record.job, job.charter, LeafPem());
  std::string text = policy::ToJson(statement).dump();
  files.Add("statement", Join({{1}, ToBytes(AsBytes(text))}));
  text[text.size() / 2] ^= 1;
  files.Add("statement-changed", Join({{1}, ToBytes(AsBytes(text))}));
  KeyFiles(files);
  files.Add("ledger-anchor", Join({{2}, Ok(ReadFile(anchor))}));
  Must(WriteAnchor(folder / "journal-anchor", {7, DigestFor("head")}).ok(), "an anchor");
  files.Add("journal-anchor", Join({{2}, Ok(ReadFile(folder / "journal-anchor"))}));
  files.Add("address", Join({{3}, ToBytes(AsBytes("[::1]:7443"))}));

  const AdapterLayout layout = Ok(AdapterLayout::Make(job.base_model.shape, job.adapter));
  cli::VerifiedAdapter adapter{job, layout, Ok(FirstAdapter(layout, record.job, 1)), DigestFor("adapter")};
  adapter.blob.round = 1;
  const fs::path out = folder / "out";
  fs::create_directories(out);
  const Status written = cli::WriteAdapterFolder(out, record, adapter, {statement});
  if (!written.ok()) std::fprintf(stderr, "%s\n", ToString(written).c_str());
  Must(written.ok(), "a folder is written");
  const Bytes privacy = Ok(ReadFile(out / cli::kPrivacyFile)), chain = Ok(ReadFile(out / cli::kChainFile));
  corpus.Add("privacy", Join({{0}, privacy}));
  corpus.Add("privacy-torn", Join({{0}, Bytes(privacy.begin(), privacy.end() - 100)}));
  corpus.Add("chain", Join({{1}, Sized(chain), ToBytes(AsBytes(job_file))}));
  Evaluations(corpus);
  v1::RoundsReply reply;
  reply.set_job_file(job_file);
  corpus.Add("rounds", Join({{3}, ToBytes(AsBytes(reply.SerializeAsString()))}));
}

void ModelFolders(const fs::path& root) {
  const Corpus corpus(root, "model_folder_fuzz");
  const std::string config =
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","num_hidden_layers":1,"hidden_size":8,)"
      R"("intermediate_size":12,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":3,)"
      R"("max_position_embeddings":64,"rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu",)"
      R"("tie_word_embeddings":true,"bos_token_id":1,"eos_token_id":[2,1]})";
  const std::string layer = "model.layers.0.";
  const std::vector<std::pair<std::string, std::vector<uint64_t>>> shapes{
      {"model.embed_tokens.weight", {3, 8}},       {"model.norm.weight", {8}},
      {layer + "input_layernorm.weight", {8}},     {layer + "post_attention_layernorm.weight", {8}},
      {layer + "self_attn.q_proj.weight", {8, 8}}, {layer + "self_attn.k_proj.weight", {4, 8}},
      {layer + "self_attn.v_proj.weight", {4, 8}}, {layer + "self_attn.o_proj.weight", {8, 8}},
      {layer + "mlp.gate_proj.weight", {12, 8}},   {layer + "mlp.up_proj.weight", {12, 8}},
      {layer + "mlp.down_proj.weight", {8, 12}}};
  const Bytes zeros(12 * 8 * 4, 0);
  std::vector<SafetensorsTensor> tensors;
  nlohmann::ordered_json index;
  for (const auto& [name, shape] : shapes) {
    const size_t size = 4 * shape[0] * (shape.size() == 2 ? shape[1] : 1);
    tensors.push_back({name, "F32", shape, ByteView(zeros).first(size)});
    index["weight_map"][name] = "model.safetensors";
  }
  const Bytes weights = Ok(WriteSafetensors(tensors, {}));
  const std::string list = index.dump();
  corpus.Add("single", Join({Sized(AsBytes(config)), {0, 0}, weights}));
  corpus.Add("indexed", Join({Sized(AsBytes(config)), Sized(AsBytes(list)), weights}));
  corpus.Add("torn", Join({Sized(AsBytes(config)), {0, 0}, Bytes(weights.begin(), weights.end() - 4)}));
}

Bytes DerOf(const std::string& pem) {
  const auto certificate = Ok(crypto::Certificate::FromPem(pem));
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.handle(), &der);
  Must(size > 0, "a certificate in DER");
  const Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

void Certificates(const fs::path& root) {
  const Corpus corpus(root, "certificate_fuzz");
  crypto::CtrRandom random(secagg::testing::SeedFor("certificates"));
  const auto root_key = crypto::SigningKey::FromSeed(secagg::testing::SeedFor("root"));
  const auto& site = TheWorld().sites[0];
  const auto end = At(int64_t{86'400'000} * 365);
  const std::string root_pem =
      Ok(crypto::MakeRootCertificate(root_key, site.id.jurisdiction(), At(-1000), end, random));
  const crypto::CertificateProfile profile{
      site.id, site.key.Public().spki(), {"site.example"}, {"127.0.0.1"}, At(-1000), end};
  const std::string leaf_pem = Ok(crypto::IssueLeaf(root_key, root_pem, profile, random));
  corpus.Add("root.der", DerOf(root_pem));
  corpus.Add("leaf.der", DerOf(leaf_pem));
  corpus.Add("chain.pem", leaf_pem + root_pem);
  corpus.Add("key.spki", site.key.Public().spki());
  for (const Mode mode : {kPlain, kP256}) {
    const crypto::SigningKey& key = TheWorld(mode).sites[0].key;
    corpus.Add(fmt::format("private-{}.pem", kModeNames[mode]), key.ToPem().view());
    corpus.Add(fmt::format("public-{}.pem", kModeNames[mode]), key.Public().ToPem());
  }
}

// ---- The trainer's side.

void Channels(const fs::path& root) {
  using namespace sandbox;  // NOLINT: the channel's messages
  const Corpus corpus(root, "channel_fuzz");
  Configure configure;
  configure.base_model = "/srv/model.gguf";
  configure.dataset = "/srv/text.jsonl";
  configure.device = "cpu";
  const Train train{7, 2, 8, 1, 1e-4, 0.01, 0.95, 1, std::nullopt};
  Train private_train = train;
  private_train.privacy = UnitPrivacy{UnitPrivacy::Unit::kPerson, 0.5, 1.1, 0.02, 64, 5, 12, 1e-6};
  Configure promised = configure;
  promised.person_field = "patient_id";
  promised.promise = UnitPromise{TrainedUnit::kPerson, 1e-6};
  const std::vector<ToTrainer> to{
      configure,
      Prepare{{1, 8, 12, 2, 1, 4}, {1, 2, {LoraTarget::kQ}, LoraMethod::kFfa}, 64},
      train,
      private_train,
      Evaluate{true, 10, std::nullopt},
      Evaluate{false, 0, UnitBounds{UnitPrivacy::Unit::kRecord, 100, 8, 16}},
      Stop{},
      Prepare{{1, 8, 12, 2, 1, 4}, {1, 2, {LoraTarget::kQ}, LoraMethod::kCore}, 64},
      promised};
  for (size_t i = 0; i < to.size(); ++i) corpus.Add(fmt::format("to-{}", i), Encode(to[i]));
  const std::vector<FromTrainer> from{Ready{Ready::Lockdown::kFull, {1, 8, 12, 2, 1, 4}, 10, 2, 4000},
                                      Prepared{},
                                      TrainerProgress{500, 301.5, 2.25},
                                      Trained{2.5, 1000, 2000, 3.5, 8},
                                      Evaluated{1.25, 0.01, 20, 30000, 4, UnitSums{-3, 1 << 30}},
                                      Failed{9, "no documents"}};
  for (size_t i = 0; i < from.size(); ++i) corpus.Add(fmt::format("from-{}", i), Encode(from[i]));
}

void Ggufs(const fs::path& root) {
  const Corpus corpus(root, "gguf_fuzz");
  model::GgufBuilder small;
  small.Text("general.architecture", "llama")
      .Text("tokenizer.ggml.model", "gpt2")
      .Text("tokenizer.ggml.pre", "smollm")
      .Texts("tokenizer.ggml.tokens", {"a", "b", "ab"})
      .I32s("tokenizer.ggml.token_type", {1, 1, 1})
      .Texts("tokenizer.ggml.merges", {"a b"})
      .U32("tokenizer.ggml.eos_token_id", 0)
      .AddF32("output_norm.weight", {8}, std::vector<float>(8, 1));
  corpus.Add("tokenizer", small.Build());
  corpus.Add("llama", model::TinyLlama().Build());
  model::GgufBuilder q8;
  q8.Text("general.architecture", "llama").Add("blk.0.attn_q.weight", {32, 2}, 8, Bytes(68, 3));
  corpus.Add("q8_0", q8.Build());
}

}  // namespace
}  // namespace concordat::fuzz

int main(int argc, char** argv) {
  using namespace concordat::fuzz;
  if (argc != 2) return 64;
  const std::filesystem::path root = argv[1];
  for (const auto make : {WorkerRounds, CoordinatorRounds, SecaggRecords, Wire, WorkerStore, Spools, Lines,
                          Adapters, Released, ModelFolders, Certificates, Channels, Ggufs}) {
    make(root);
  }
  return 0;
}
