"""One case in Flower's deployment runtime, on loopback: a SuperLink with TLS, a SuperNode for each site with a
FLWR_HOME of its own, and the app in flower_app started by `flwr run`. Everything lies in a temporary folder and is
gone afterwards.
"""

import collections
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
from flower_client import base

HERE = pathlib.Path(__file__).resolve().parent
PR_SET_CHILD_SUBREAPER = 36
BIN = pathlib.Path(sys.executable).parent
PROJECT = """[project]
name = "peers"
version = "1.0.0"
description = "one SecAgg+ round"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "peers"

[tool.flwr.app.components]
serverapp = "server_app:app"
clientapp = "client_app:app"

[tool.flwr.app.config]
"""


class CaseFailed(RuntimeError):
    """The case cannot be brought to its end; says why."""


def environment(home):
    """Without proxies (all is on loopback), without telemetry, without installing packages for the app."""
    out = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    out["PATH"] = f"{BIN}{os.pathsep}{out['PATH']}"
    out |= {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    out |= {"FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "PYTHONUNBUFFERED": "1"}
    return out


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def certificates(folder):
    """A CA and the SuperLink's certificate, both P-256."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=peers CA")
    openssl("req", *key, "-keyout", "link.key", "-out", "link.csr", "-subj", "/CN=localhost")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "link.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "link.pem", "-days", "2", "-extfile", "san")


def write_app(folder, options):
    app = folder / "app"
    shutil.copytree(HERE / "flower_app", app, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["flower_client.py", "flower_server.py"]:
        shutil.copy(HERE / name, app)
    np.save(folder / "vector.npy", base(options.elements))
    config = {
        "sites": options.sites,
        "elements": options.elements,
        "lost": options.lost,
        "killed": options.lost_by == "kill",
        "rounds": options.rounds,
        "vector": str(folder / "vector.npy"),
        "report": str(folder / "report.json"),
    }
    # JSON's strings, whole numbers and truth values are TOML's too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.items()]
    (app / "pyproject.toml").write_text(PROJECT + "\n".join(lines) + "\n")


def available_mib():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def descendants():
    """Ids of all processes that this one has started, directly or not."""
    children = collections.defaultdict(list)
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        children[parent].append(int(stat.parent.name))
    found, queue = [], [os.getpid()]
    while queue:
        queue += children[queue.pop()]
        found = list(dict.fromkeys(found + queue))
    return found


class Fleet:
    """The processes. Leaves none behind."""

    def __init__(self, folder, options):
        # What a killed SuperNode has started becomes a child of this process, to be waited for.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.folder, self.options, self.processes = folder, options, []
        self.port, *self.node_ports = free_ports(options.sites + 1)
        self.address, self.least_mib = f"127.0.0.1:{self.port}", available_mib()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        deadline = time.monotonic() + 10
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self.processes:
            process.wait()
        try:
            while os.waitpid(-1, 0):
                pass
        except ChildProcessError:
            pass

    def start(self, name, command):
        home = self.folder / name
        home.mkdir()
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen([str(BIN / command[0]), *command[1:]], stdout=log, stderr=log,
                                       cwd=home, env=environment(home))
        self.processes.append(process)
        return process

    def start_link(self):
        self.start("link", [
            "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(self.folder / "ca.pem"), "--ssl-certfile", str(self.folder / "link.pem"),
            "--ssl-keyfile", str(self.folder / "link.key"), "--disable-runtime-dependency-installation",
        ])
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                opener.open(f"https://{self.address}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                self.look()
                time.sleep(0.5)
        raise CaseFailed("the SuperLink does not answer")

    def start_node(self, site):
        pid = self.folder / f"site-{site}.pid"
        process = self.start(f"site-{site}", [
            "flower-supernode", "--superlink", self.address, "--root-certificates", str(self.folder / "ca.pem"),
            "--host", "127.0.0.1", "--port", str(self.node_ports[site]),
            "--node-config", f'partition-id={site} process="{pid}"',
        ])
        pid.write_text(str(process.pid))

    def flwr(self, *words):
        """A call of the command line; the JSON object that it prints."""
        home = self.folder / "cli"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "peers"\n\n[superlink.peers]\naddress = "{self.address}"\n'
            f'root-certificates = "{self.folder / "ca.pem"}"\n'
        )
        done = subprocess.run([str(BIN / "flwr"), *words, "--format", "json"], cwd=home, env=environment(home),
                              capture_output=True, text=True, timeout=120, check=False)
        start = done.stdout.find("{")
        if done.returncode != 0 or start < 0:
            raise CaseFailed(f"flwr {words[0]}: {(done.stdout + done.stderr)[-300:]}")
        return json.JSONDecoder().raw_decode(done.stdout[start:])[0]

    def look(self):
        """Raises when the machine runs out of memory or a process ended that nobody killed."""
        self.least_mib = min(self.least_mib, available_mib())
        if self.least_mib < self.options.spare_mib:
            raise CaseFailed("out of memory")
        for process in self.processes:
            if process.poll() is not None and not (self.options.lost_by == "kill" and process.returncode == -9):
                raise CaseFailed(f"a process ended with {process.returncode}")

    def wait(self, deadline):
        report = self.folder / "report.json"
        while time.monotonic() < deadline:
            if report.exists():
                return json.loads(report.read_text())
            self.look()
            time.sleep(0.25)
        raise CaseFailed(f"not done within {self.options.limit} s")


def named_errors(folder):
    """The errors that the logs name, the most frequent first, and how many calls were tried again."""
    found, again = collections.Counter(), 0
    for log in folder.glob("*.log"):
        text = log.read_text(errors="replace")
        again += text.count("Connection attempt failed")
        text = text.replace("RuntimeError: lost", "").replace("RuntimeError'>:<'lost", "")
        found.update(re.findall(r"\b(?:[a-z_]+\.)*[A-Z]\w*(?:Error|Exception|Timeout|Unavailable)\b(?=[:'>(])", text))
    return [name for name, _ in found.most_common(4)], again


def traffic(fleet, run, result):
    """Flower's own count of what SuperNodes and SuperLink have sent to each other, without framing."""
    counted = fleet.flwr("ls", "--run-id", str(run))["runs"][0]["network-traffic"]
    rounds, lost = len(result["rounds"]), result["lost"]
    answers = result["sites"] * rounds - lost * (1 if fleet.options.lost_by == "kill" else rounds)
    return {
        "fleet_bytes": counted,
        "fleet_up_bytes_per_element": counted["inbound-bytes"] / (answers * result["elements"]),
        "fleet_down_bytes_per_element": counted["outbound-bytes"] / (result["sites"] * rounds * result["elements"]),
    }


def rounds_on(fleet, options, deadline):
    """Starts all, waits for the report, looks at the logs while nothing is being stopped yet."""
    result = {"runtime": "deployment"}
    try:
        fleet.start_link()
        for site in range(options.sites):
            fleet.start_node(site)
        run = fleet.flwr("run", str(fleet.folder / "app"), "peers")["run-id"]
        result = fleet.wait(deadline)
        if "failed" not in result:
            result |= traffic(fleet, run, result)
    except CaseFailed as error:
        result["failed"] = str(error)
    errors, result["tried_again"] = named_errors(fleet.folder)
    if "failed" in result:
        result["failed"] = "fails: " + "; ".join(dict.fromkeys([result["failed"], *errors]))
    return result


def deploy(options):
    deadline, before = time.monotonic() + options.limit, available_mib()
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = pathlib.Path(name)
        certificates(folder)
        write_app(folder, options)
        with Fleet(folder, options) as fleet:
            result = rounds_on(fleet, options, deadline)
        if options.keep:
            shutil.copytree(folder, options.keep, ignore=shutil.ignore_patterns("*.npy"), dirs_exist_ok=True)
        return {**result, "memory_mib": before - fleet.least_mib}
