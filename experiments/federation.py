"""Jobs of three regions with real processes, for experiments: what leak/run and utility/run have in common."""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("CONCORDAT_CACHE") or pathlib.Path.home() / ".cache" / "concordat")
MODEL = CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
REGIONS = {"de.example": "de", "fr.example": "fr", "es.example": "es"}
DELTA = 1e-5


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def end_with_parent():
    """For preexec_fn: SIGTERM when the script ends, however it does. Else its daemons would keep port and state."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Federation:
    """Three regions and a coordinator in a folder, made once; their daemons, while a job needs them.

    An experiment says in a subclass what its records, budgets and job are.
    """

    name = "experiment"
    trainer = None  # path of the regions' trainer, None: the real one
    held_out_permille = 0
    canaries = 0  # made in each region, of which a coin plants each or not

    def __init__(self, folder, build, threads):
        self.folder, self.bin, self.threads = folder, build / "bin", threads
        self.processes = []

    def unit(self):
        """Of the regions' budgets: site or record."""
        raise NotImplementedError

    def records(self, region):
        """Text of the region's JSONL file."""
        raise NotImplementedError

    def job(self, charter):
        """Text of the job file."""
        raise NotImplementedError

    def add_to_region(self, region):
        """Whatever else the region's folder needs; gives lines for its dataset card."""
        if not self.canaries:
            return ""
        self.command("region", "canaries", self.home(region), "--count", self.canaries)
        return f"canaries: {{key: canary.key, count: {self.canaries}}}\n"

    def command(self, *words, json_out=False, codes=(0,)):
        done = subprocess.run(
            [str(self.bin / "concordat"), *(["--json"] if json_out else []), *map(str, words)],
            capture_output=True, text=True,
        )
        if done.returncode not in codes:
            raise RuntimeError(f"concordat {' '.join(map(str, words))}: {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1]) if json_out else done.stdout

    def as_operator(self, *words, **more):
        return self.command("--config", self.home("de.example") / "operator.yaml", *words, **more)

    def home(self, region):
        return self.folder / "regions" / region

    # ---- Files.

    def make(self):
        if (self.folder / "made").exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "regions").mkdir(parents=True)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        coordinator = self.folder / "coordinator"
        self.command("coordinator", "init", coordinator, "--jurisdiction", "ch.example", "--dns", "localhost", "--ip",
                     "127.0.0.1", "--listen", f"127.0.0.1:{port}")
        for region in REGIONS:
            self.make_region(region)
        charter = self.folder / "charter.yaml"
        members = [f"--member={r}={self.home(r)}/ca/root.pem=the law of {r}" for r in REGIONS]
        self.command("charter", "new", charter, "--name", self.name, *members, "--coordinator", coordinator, "--address",
                     f"127.0.0.1:{port}", "--tls-name", "localhost", "--minimum-cohort", "3", "--legal-basis", "statute")
        for region in REGIONS:
            self.command("charter", "sign", charter, "--region", self.home(region))
        pinned = [coordinator / "coordinator.yaml"]
        pinned[0].write_text(f"listen: 127.0.0.1:{port}\n{unpinned('../charter.yaml')}"
                             "certificate: coordinator/cert.pem\nkey: coordinator/key.pem\nstate: state\n"
                             "log: coordinator.log\n")
        for region in REGIONS:
            pinned += [self.home(region) / "worker.yaml", self.home(region) / "operator.yaml"]
        self.command("charter", "pin", charter, *pinned)
        (self.folder / "job.yaml").write_text(
            self.job(self.command("charter", "verify", charter, json_out=True)["charter"]))
        (self.folder / "made").touch()

    def make_region(self, region):
        home = self.home(region)
        self.command("region", "init", home, "--jurisdiction", region, "--worker", "site")
        more = self.add_to_region(region)
        (home / "data").mkdir()
        (home / "data" / "records.jsonl").write_text(self.records(region))
        (home / "policy.yaml").write_text(f"""submitters: [spiffe://de.example/operator/admin]
base_models:
  - {{sha256: {sha256(MODEL)}, license: Apache-2.0}}
adapters: {{methods: [fedit, ffa, core], targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj], max_rank: 256}}
cohort: {{min_sites: 3, min_survivors: 3, min_honest: 2, min_colluding: 1, max_attempts_per_round: 5}}
privacy:
  max_clip: 1000
  min_noise_multiplier: 0
  min_metrics_noise_multiplier: 0
  max_delta: {DELTA:f}
  noise: [local]
  rounding: [stochastic, nearest]
training: {{max_rounds: 100, max_local_steps: 1000, max_sequence_tokens: 2048, max_batch_sequences: 64}}
deadlines:
  advert: {{min: 1s, max: 10m}}
  shares: {{min: 1s, max: 10m}}
  input: {{min: 10s, max: 24h}}
  agreement: {{min: 1s, max: 10m}}
  unmask: {{min: 1s, max: 10m}}
artefacts:
  delta: allow
  metrics: allow
  evaluation: {{release: deny}}
approval: automatic
sandbox: required
""")
        (home / "dataset-card.yaml").write_text(f"""name: {self.name}-{REGIONS[region]}
path: data/records.jsonl
kind: jsonl
classification: {{raw: internal, embeddings: internal, activations: internal, logs: internal, checkpoints: internal,
                 deltas: internal, metrics: internal}}
legal_frameworks: [GDPR]
residency: [{region}]
sovereignty: [{region}]
operation: [{region}]
privacy: {{unit: {self.unit()}, epsilon: unlimited, delta: {DELTA:f}, period: none}}
retention: until this folder is deleted
licence: the licences of Debian's manual pages
held_out_permille: {self.held_out_permille}
split_key: split.key
{more}""")
        trainer = f"trainer: {self.trainer}\n" if self.trainer else ""
        (home / "worker.yaml").write_text(
            f"{unpinned('../../charter.yaml')}certificate: worker/cert.pem\nkey: worker/key.pem\npolicy: policy.yaml\n"
            f"dataset_card: dataset-card.yaml\nbase_model: {MODEL}\ndevice: cpu\nthreads: {self.threads}\nstate: state\n"
            f"log: worker.log\n{trainer}")
        (home / "operator.yaml").write_text(
            f"{unpinned('../../charter.yaml')}certificate: operator/cert.pem\nkey: operator/key.pem\n")

    # ---- Job.

    def start(self):
        def run(program, config, log):
            # The workers' own processes end with them.
            self.processes.append(subprocess.Popen(
                [str(self.bin / program), "--config", str(config)], stderr=open(log, "a"), stdout=subprocess.DEVNULL,
                preexec_fn=end_with_parent))

        run("concordat-coordinator", self.folder / "coordinator" / "coordinator.yaml",
            self.folder / "coordinator" / "stderr.log")
        for region in REGIONS:
            run("concordat-worker", self.home(region) / "worker.yaml", self.home(region) / "stderr.log")
        for _ in range(240):
            if any(p.poll() is not None for p in self.processes):
                raise RuntimeError(f"a daemon ended: see {self.folder}/coordinator/stderr.log and regions/*/stderr.log")
            try:
                if len(self.as_operator("workers", json_out=True)["connected"]) == 3:
                    return
            except RuntimeError:
                pass
            time.sleep(0.5)
        raise RuntimeError("not all workers reached the coordinator within two minutes")

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def train(self):
        """Gives what the coordinator says of the finished job; its adapter is in the folder."""
        end = self.folder / "job.json"
        if end.exists():
            return json.loads(end.read_text())
        self.start()
        try:
            job = self.as_operator("submit", self.folder / "job.yaml", json_out=True)["job"]
            state = self.as_operator("watch", job, json_out=True)
            adapter = self.folder / "adapter"
            self.as_operator("adapter", "pull", job, "--out", adapter)
        finally:
            self.stop()
        end.write_text(json.dumps(state, indent=1))
        return state

    # ---- Evidence.

    def audits(self, documents):
        """What `concordat eval --leak` says of the pulled adapter in each region, of so many documents of either side."""
        at_once = max(1, (os.cpu_count() or 1) // max(1, self.threads))
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            return dict(zip(REGIONS, pool.map(lambda region: self.audit(region, documents), REGIONS)))

    def audit(self, region, documents):
        file = self.folder / f"audit-{region}.json"
        if not file.exists():
            found = self.command("eval", "--leak", self.folder / "adapter", "--worker", self.home(region) / "worker.yaml",
                                 "--documents", documents, json_out=True, codes=(0, 1))
            if "error" in found:
                raise RuntimeError(f"{region}: {found['error']}")
            file.write_text(json.dumps(found, indent=1))
        return json.loads(file.read_text())


def audit_table(rows):
    """rows: (name, region, what `eval --leak` said)."""
    def figure(value, form="{:.2f}"):
        return "-" if value is None else value if isinstance(value, str) else form.format(value)

    head = ["setting", "region", "exposure", "flag", "found", "AUC", "TPR@1%", "eps audited", "ceiling", "eps claimed",
            "above"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, region, a in rows:
        auc = a.get("auc")
        lines.append("| " + " | ".join([
            name, REGIONS[region], figure(a["exposure_mean"]), figure(a["exposure_flag"]), str(a["canaries_found"]).lower(),
            "-" if auc is None else f"{auc:.3f} ± {a['auc_standard_error']:.3f}",
            figure(a.get("tpr_at_1_percent_fpr"), "{:.3f}"), figure(a["epsilon_audited"]), figure(a["epsilon_audited_ceiling"]),
            figure(a["epsilon_claimed"]), "-" if a["above_claim"] is None else str(a["above_claim"]).lower()]) + " |")
    return "\n".join(lines)


def unpinned(charter):
    return f"charter:\n  file: {charter}\n  hash: {'0' * 64}\n"


def sha256(path, known={}):
    if path not in known:
        known[path] = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout[:64]
    return known[path]


def base_model():
    """The block of a job file."""
    return f"""base_model:
  name: SmolLM2-135M-Instruct
  sha256: {sha256(MODEL)}
  license: Apache-2.0
  shape: {{layers: 30, hidden: 576, intermediate: 1536, heads: 9, kv_heads: 3, head_dim: 64}}
"""


def job_noise(sigma):
    """The noise_multiplier of a job for records whose price is that of `sigma`.

    Loss and token counts have noise of 5z each and are priced with the gradient: z/√(1 + 2/25) is what counts.
    """
    return sigma * (1 + 2 / 25) ** 0.5 * 1.0001


def manual_texts():
    subprocess.run([str(ROOT / "scripts" / "manual_texts"), str(CACHE / "text"), *REGIONS.values()], check=True,
                   stdout=sys.stderr)
