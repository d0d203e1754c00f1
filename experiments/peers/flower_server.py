"""The server of the compared round: SecAgg+ as a fit workflow, timed and checked."""

import statistics
import sys
import time

import flwr
import numpy as np
from flower_client import planted
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.constant import ErrorCode
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

SETTINGS = {
    "max_weight": 1.0,
    "clipping_range": 8.0,  # Flower's default
    "quantization_range": 1 << 22,  # Flower's default
    "modulus_range": 1 << 32,  # Flower's default
}


class RoundFailed(RuntimeError):
    """A round without a sum, or with one of fewer sites than were there."""


def shares_of(sites):
    """The complete graph, and Concordat's threshold."""
    return {"num_shares": sites, "reconstruction_threshold": 2 * sites // 3 + 1}


def loopback_bytes():
    """Bytes that the loopback interface has carried; every packet is counted once."""
    with open("/proc/net/dev", encoding="ascii") as file:
        for line in file:
            name, _, fields = line.partition(":")
            if name.strip() == "lo":
                return int(fields.split()[0])
    return 0


def name_of(error):
    names = {v: k for k, v in vars(ErrorCode).items() if k.isupper()}
    return names.get(error.code, str(error.code))


class Watched:
    """A grid that notes what clients say that they have sent, and the errors that come in place of replies."""

    def __init__(self, grid, sent, errors):
        self.grid, self.sent, self.errors = grid, sent, errors

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.has_error():
                self.errors.append(f"{name_of(reply.error)}: {reply.error.reason}")
            elif (count := reply.content.config_records.get("count")) is not None:
                self.sent[reply.metadata.src_node_id] = count["sent"]
        return replies


class Kept(FedAvg):
    """FedAvg that keeps the last aggregate and how many it is of."""

    def __init__(self, sites, elements):
        super().__init__(
            fraction_fit=1.0,
            fraction_evaluate=0.0,
            min_fit_clients=sites,
            min_available_clients=sites,
            initial_parameters=ndarrays_to_parameters([np.zeros(elements, dtype=np.float32)]),
            on_fit_config_fn=lambda server_round: {"round": server_round},
        )
        self.count, self.last = 0, None

    def aggregate_fit(self, server_round, results, failures):
        self.count = len(results)
        out = super().aggregate_fit(server_round, results, failures)
        self.last = parameters_to_ndarrays(out[0])[0] if out[0] is not None else None
        return out


class Timed:
    """SecAgg+ as a fit workflow, with the time that it takes. `expected(round)`: of how many sites a sum must be."""

    def __init__(self, sites, strategy, expected):
        self.workflow = SecAggPlusWorkflow(**shares_of(sites), **SETTINGS)
        self.strategy, self.expected = strategy, expected
        self.seconds, self.loopback, self.sent, self.errors = [], [], {}, []

    def __call__(self, grid, context):
        self.strategy.count = 0
        bytes_before, began = loopback_bytes(), time.perf_counter()
        self.workflow(Watched(grid, self.sent, self.errors), context)
        took = time.perf_counter() - began
        if self.strategy.count != self.expected(len(self.seconds) + 1):
            raise RoundFailed(f"a sum of {self.strategy.count} sites after {took:.0f} s")
        self.seconds.append(took)
        self.loopback.append(loopback_bytes() - bytes_before)
        print(f"flower: {took:.2f} s", file=sys.stderr, flush=True)


class Session:
    """All rounds on one grid."""

    def __init__(self, sites, elements, lost, rounds, killed=False):
        self.sites, self.elements, self.lost, self.rounds = sites, elements, lost, rounds
        self.strategy = Kept(sites, elements)
        losing = rounds if killed else 1  # a node that is killed is lost in the last round only
        self.timed = Timed(sites, self.strategy, lambda r: sites - lost if r >= losing else sites)

    def run(self, grid, context):
        config = ServerConfig(num_rounds=self.rounds)
        legacy = LegacyContext(context, config=config, strategy=self.strategy)
        DefaultWorkflow(fit_workflow=self.timed)(grid, legacy)

    def worst_error(self, vector=None):
        """Largest distance from the plain mean; None when there is no aggregate."""
        if self.strategy.last is None:
            return None
        mean = np.zeros(self.elements, dtype=np.float64)
        for partition in range(self.lost, self.sites):
            mean += planted(self.elements, partition, vector)
        mean /= self.sites - self.lost
        return float(np.max(np.abs(mean - self.strategy.last)))

    def report(self, runtime, vector=None):
        timed = self.timed
        counted = timed.seconds[1:] or timed.seconds
        sent = max(timed.sent.values()) / len(timed.seconds) if timed.sent and timed.seconds else None
        return {
            "version": flwr.__version__,
            "runtime": runtime,
            "sites": self.sites,
            "elements": self.elements,
            "lost": self.lost,
            "rounds": timed.seconds,
            "seconds": statistics.median(counted) if counted else None,
            "loopback_bytes": timed.loopback,
            "up_bytes": sent,
            "up_bytes_per_element": sent / self.elements if sent else None,
            "summed": self.strategy.count,
            "worst_error": self.worst_error(vector),
            "errors": timed.errors,
            **shares_of(self.sites),
            **SETTINGS,
        }
