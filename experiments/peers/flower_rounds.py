"""Rounds of Flower's SecAgg+ (SecAggPlusWorkflow and secaggplus_mod), timed. Run by `run`, inside Flower's own
environment. Prints one JSON object.

--runtime direct      messages are handed over as objects, on one thread for each core: the protocol's own code and
                      nothing else, no serialisation, no network, no polling. As fast as it can be.
--runtime ray         Flower's simulation runtime, with as many actors as there are cores.
--runtime deployment  Flower's deployment runtime: a SuperLink with TLS and a SuperNode for each site, processes of
                      their own, and the app started by `flwr run` (flower_deployment.py).
"""

import argparse
import copy
import json
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

from flower_client import Planted, counting_mod, planted  # noqa: E402
from flower_server import RoundFailed, Session  # noqa: E402
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict  # noqa: E402
from flwr.client.mod import secaggplus_mod  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.server import ServerApp  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.run import Run  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402


def make_client_app(elements, lost):
    def client_fn(context):
        partition = int(context.node_config["partition-id"])
        return Planted(elements, partition, partition < lost).to_client()

    return ClientApp(client_fn=client_fn, mods=[counting_mod, secaggplus_mod])


class DirectGrid(Grid):
    """Hands messages to the client apps in this process."""

    def __init__(self, app, sites, threads):
        self.app, self.pool = app, ThreadPoolExecutor(threads)
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
            return self.app(message, context)
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


def direct(options, session, cores):
    for partition in range(options.sites):
        planted(options.elements, partition)
    grid = DirectGrid(make_client_app(options.elements, options.lost), options.sites, cores)
    session.run(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}))


def simulate(options, session, cores):
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def _main(grid, context):
        session.run(grid, context)

    app = make_client_app(options.elements, options.lost)
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": cores}}
    run_simulation(server, app, num_supernodes=options.sites, backend_config=backend)


def measured(options):
    if options.runtime == "deployment":
        from flower_deployment import deploy

        return deploy(options)
    session = Session(options.sites, options.elements, options.lost, options.rounds)
    try:
        (direct if options.runtime == "direct" else simulate)(options, session, len(os.sched_getaffinity(0)))
    except RoundFailed as error:
        return {**session.report(options.runtime), "failed": f"fails: {error}"}
    return session.report(options.runtime)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, required=True)
    parser.add_argument("--elements", type=int, required=True)
    parser.add_argument("--lost", type=int, default=0)
    parser.add_argument("--lost-by", choices=["error", "kill"], default="error",
                        help="deployment: kill -9 of the SuperNode in the last round instead of an error reply in each")
    parser.add_argument("--rounds", type=int, default=3, help="the first is not counted when there are more")
    parser.add_argument("--runtime", choices=["direct", "ray", "deployment"], default="direct")
    parser.add_argument("--limit", type=int, default=600, help="deployment: seconds for all, with starting")
    parser.add_argument("--spare-mib", type=int, default=1024, help="deployment: memory that is left to the machine")
    parser.add_argument("--keep", help="deployment: folder for what the programs say")
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
