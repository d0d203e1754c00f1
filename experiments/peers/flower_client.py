"""The client of the compared round: its vector is there at once, nobody trains."""

import os
import pathlib
import signal

import numpy as np
from flwr.app import ConfigRecord
from flwr.client import NumPyClient


class Planted(NumPyClient):
    """Hands its vector over, or fails instead; with `node`, a file with a process id, it kills that process."""

    def __init__(self, elements, partition, fails=False, vector=None, node=None):
        self.elements, self.partition, self.fails = elements, partition, fails
        self.vector, self.node = vector, node

    def fit(self, parameters, config):
        if self.fails and self.node:
            os.kill(int(pathlib.Path(self.node).read_text()), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails:
            raise RuntimeError("lost")
        return [planted(self.elements, self.partition, self.vector)], 1, {}


_made = {}


def base(elements):
    return np.random.default_rng(1).uniform(-0.4, 0.4, elements).astype(np.float32)


def planted(elements, partition, vector=None):
    """Made once in a process, and cheap: training is not what is timed. `vector`: a file with base(elements)."""
    if elements not in _made:
        _made[elements] = np.load(vector) if vector else base(elements)
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
