"""Rounds of Flower's SecAgg+ (SecAggPlusWorkflow and secaggplus_mod), timed. Run by `run`, inside Flower's own
environment. Prints one JSON object.

--runtime direct  messages are handed over as objects, on one thread for each core: the protocol's own code and
                  nothing else, no serialisation, no network, no polling. As fast as it can be.
--runtime ray     Flower's simulation runtime, with as many actors as there are cores.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import flwr  # noqa: E402
import numpy as np  # noqa: E402
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict  # noqa: E402
from flwr.client import NumPyClient  # noqa: E402
from flwr.client.mod import secaggplus_mod  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server import LegacyContext, ServerApp, ServerConfig  # noqa: E402
from flwr.server.strategy import FedAvg  # noqa: E402
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.run import Run  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

CLIP = 8.0  # Flower's default
QUANTIZATION = 1 << 22  # Flower's default
MODULUS = 1 << 32  # Flower's default
CONFIGS = "secaggplus_configs"


def threshold(sites):
    return 2 * sites // 3 + 1


class Planted(NumPyClient):
    """A client whose parameters are there at once, or who fails instead of handing them over."""

    def __init__(self, elements, partition, fails):
        self.elements, self.partition, self.fails = elements, partition, fails

    def fit(self, parameters, config):
        if self.fails:
            raise RuntimeError("lost")
        return [planted(self.elements, self.partition)], 1, {}


_made = {}


def planted(elements, partition):
    """Made once in a process, and cheap: training is not what is timed."""
    if elements not in _made:
        _made[elements] = np.random.default_rng(1).uniform(-0.4, 0.4, elements).astype(np.float32)
    if (elements, partition) not in _made:
        _made[elements, partition] = _made[elements] * np.float32(1 + partition / 100)
    return _made[elements, partition]


def size_of(content):
    """Bytes of the payload: of arrays and of byte strings, without names and framing."""
    total = 0
    for record in content.array_records.values():
        total += sum(len(array.data) for array in record.values())
    for record in content.config_records.values():
        for value in record.values():
            if isinstance(value, bytes):
                total += len(value)
            elif isinstance(value, list):
                total += sum(len(v) if isinstance(v, bytes) else 8 for v in value)
    return total


def counting_mod(msg, context, call_next):
    """Counts what this client sends, with its running total as a field of the message."""
    out = call_next(msg, context)
    sizes = context.state.config_records.setdefault("sizes", ConfigRecord({"sent": 0}))
    sizes["sent"] = sizes["sent"] + size_of(out.content)
    out.content.config_records["count"] = ConfigRecord({"sent": sizes["sent"]})
    return out


def make_client_app(elements, lost):
    def client_fn(context):
        partition = int(context.node_config["partition-id"])
        return Planted(elements, partition, partition < lost).to_client()

    return ClientApp(client_fn=client_fn, mods=[counting_mod, secaggplus_mod])


class DirectGrid(Grid):
    """Hands messages to the client apps in this process."""

    def __init__(self, app, sites, threads):
        self.app, self.pool = app, ThreadPoolExecutor(threads)
        self.sent = {}
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.nodes = {
            1000 + i: Context(
                run_id=1,
                node_id=1000 + i,
                node_config={"partition-id": i, "num-partitions": sites},
                state=RecordDict(),
                run_config={},
            )
            for i in range(sites)
        }

    def set_run(self, run):
        pass

    @property
    def run(self):
        return Run.create_empty(run_id=1)

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def handle(self, message):
        context = self.nodes[message.metadata.dst_node_id]
        try:
            reply = self.app(message, context)
            count = reply.content.config_records.get("count")
            if count is not None:
                self.sent[message.metadata.dst_node_id] = count["sent"]
            return reply
        except Exception as error:  # as Flower's own runtimes do
            if str(error).find("lost") < 0:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return Message(Error(code=0, reason=str(error)), reply_to=message)

    def send_and_receive(self, messages, *, timeout=None):
        ready = []
        for message in messages:
            # One record may go to all: a mod takes fields out of it, so each gets a record of its own. Arrays are
            # passed as they are.
            content = RecordDict()
            for name, record in message.content.items():
                content[name] = ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else copy.copy(record)
            own = Message(
                content,
                dst_node_id=message.metadata.dst_node_id,
                message_type=message.metadata.message_type,
                group_id=message.metadata.group_id,
            )
            own.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            ready.append(own)
        return list(self.pool.map(self.handle, ready))


class Timed:
    """SecAgg+ as a fit workflow, with the time that it takes."""

    def __init__(self, options, strategy):
        self.workflow = SecAggPlusWorkflow(
            num_shares=options.shares or options.sites,
            reconstruction_threshold=options.threshold or threshold(options.sites),
            max_weight=1.0,
            clipping_range=CLIP,
            quantization_range=QUANTIZATION,
            modulus_range=MODULUS,
        )
        self.strategy, self.seconds = strategy, []

    def __call__(self, grid, context):
        began = time.perf_counter()
        self.workflow(grid, context)
        self.seconds.append(time.perf_counter() - began)
        print(f"flower: {self.seconds[-1]:.2f} s", file=sys.stderr, flush=True)


class Kept(FedAvg):
    """FedAvg that keeps the last aggregate and how many it is of."""

    def aggregate_fit(self, server_round, results, failures):
        self.count = len(results)
        out = super().aggregate_fit(server_round, results, failures)
        self.last = parameters_to_ndarrays(out[0])[0] if out[0] is not None else None
        return out


def worst_error(options, strategy):
    """Largest distance from the plain mean; None when there is no aggregate."""
    if getattr(strategy, "last", None) is None:
        return None
    mean = np.zeros(options.elements, dtype=np.float64)
    for partition in range(options.lost, options.sites):
        mean += planted(options.elements, partition)
    mean /= options.sites - options.lost
    return float(np.max(np.abs(mean - strategy.last)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sites", type=int, required=True)
    parser.add_argument("--elements", type=int, required=True)
    parser.add_argument("--lost", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="the first is not counted when there are more")
    parser.add_argument("--runtime", choices=["direct", "ray"], default="direct")
    parser.add_argument("--shares", type=int, default=0, help="0: the complete graph")
    parser.add_argument("--threshold", type=int, default=0, help="0: as Concordat's")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))

    strategy = Kept(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=options.sites,
        min_available_clients=options.sites,
        initial_parameters=ndarrays_to_parameters([np.zeros(options.elements, dtype=np.float32)]),
    )
    timed = Timed(options, strategy)
    config = ServerConfig(num_rounds=options.rounds)
    app = make_client_app(options.elements, options.lost)
    sent = None
    if options.runtime == "direct":
        for partition in range(options.sites):
            planted(options.elements, partition)
        grid = DirectGrid(app, options.sites, cores)
        base = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        DefaultWorkflow(fit_workflow=timed)(grid, LegacyContext(base, config=config, strategy=strategy))
        sent = max(grid.sent.values()) / options.rounds
    else:
        from flwr.simulation import run_simulation

        server = ServerApp()

        @server.main()
        def _main(grid, context):
            legacy = LegacyContext(context, config=config, strategy=strategy)
            DefaultWorkflow(fit_workflow=timed)(grid, legacy)

        backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": cores}}
        run_simulation(server, app, num_supernodes=options.sites, backend_config=backend)

    counted = timed.seconds[1:] if len(timed.seconds) > 1 else timed.seconds
    print(
        json.dumps(
            {
                "version": flwr.__version__,
                "runtime": options.runtime,
                "rounds": timed.seconds,
                "seconds": statistics.median(counted),
                "up_bytes": sent,
                "up_bytes_per_element": sent / options.elements if sent else None,
                "summed": getattr(strategy, "count", 0),
                "worst_error": worst_error(options, strategy),
                "num_shares": options.shares or options.sites,
                "reconstruction_threshold": options.threshold or threshold(options.sites),
                "clipping_range": CLIP,
                "quantization_range": QUANTIZATION,
                "modulus_range": MODULUS,
            }
        )
    )


if __name__ == "__main__":
    main()
