"""Packed 24-bit words and the rotation that goes with them (docs/SECURE_AGGREGATION.md, "Packed words")."""

import struct

import numpy as np

from . import primitives as p

METRIC_BOUND, METRIC_SCALE = 8.0, 256.0
CLIP, SCALE = 6.0, 1000.0


def rotation_seed(job: bytes, round_: int, attempt: int) -> bytes:
    return p.tagged_hash("concordat/v1/rotation", job + struct.pack("<II", round_, attempt))


def signs(seed: bytes, first_byte: int, count: int) -> np.ndarray:
    """+1 or -1 as f32: bit e % 8 of byte e / 8 of AES-256-CTR from `first_byte` on."""
    words = p.mask_words(seed, first_byte // 4, (count + 31) // 32)
    bits = np.unpackbits(np.frombuffer(words.tobytes(), dtype=np.uint8), bitorder="little")[:count]
    return (1 - 2 * bits.astype(np.int8)).astype(np.float32)


def stages(x: np.ndarray, up: bool) -> np.ndarray:
    """Sums and differences of numbers that are h apart, h = 1, 2, 4 ... (or backwards), each rounded to f32."""
    strides = [1 << k for k in range(len(x).bit_length() - 1)]
    for h in strides if up else reversed(strides):
        pairs = x.reshape(-1, 2, h)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
    return x


def root(size: int) -> np.float32:
    """1/sqrt(size): a power of two, times the f32 nearest to 1/sqrt(2) when the exponent is odd."""
    log2 = size.bit_length() - 1
    power = np.float32(2.0 ** -(log2 // 2))
    return power * np.float32(np.sqrt(0.5)) if log2 % 2 else power


def rotate(x: np.ndarray, seed: bytes) -> np.ndarray:
    x = x.astype(np.float32)
    size = 1 << (len(x).bit_length() - 1)
    x[:size] = stages(x[:size] * root(size) * signs(seed, 0, size), up=True)
    if size < len(x):
        x[-size:] = stages(x[-size:] * root(size) * signs(seed, 2**28, size), up=True)
    return x


def unrotate(x: np.ndarray, seed: bytes) -> np.ndarray:
    x = x.astype(np.float32)
    size = 1 << (len(x).bit_length() - 1)
    if size < len(x):
        x[-size:] = stages(x[-size:], up=False) * root(size) * signs(seed, 2**28, size)
    x[:size] = stages(x[:size], up=False) * root(size) * signs(seed, 0, size)
    return x


def numbers(key: bytes, count: int) -> np.ndarray:
    """Test values in [-1, 1), f32."""
    return p.mask_words(key, 0, count).view("<i4").astype(np.float32) * np.float32(2.0**-31)


def encode(delta: np.ndarray, metric: float, seed: bytes) -> np.ndarray:
    """Nearest rounding, no noise, one metric: words mod 2^32."""
    assert np.linalg.norm(delta.astype(np.float64)) < 0.99 * CLIP
    scaled = rotate(delta, seed).astype(np.float64) * SCALE
    whole = np.floor(scaled)
    whole += scaled - whole > 0.5
    units = np.append(whole, np.round(metric * METRIC_SCALE)).astype(np.int64)
    return (units & 0xFFFFFFFF).astype("<u4")


def decode(total: np.ndarray, sites: int, seed: bytes) -> tuple[np.ndarray, float]:
    lifted = (total << 8).view("<i4") >> 8
    mean = unrotate(lifted[:-1], seed).astype(np.float64) / (SCALE * sites)
    return mean.astype("<f4"), float(lifted[-1]) / METRIC_SCALE


def rotations() -> list:
    """Whole results where they are short, else their SHA-256; the seams of every blocking lie in between."""
    out = []
    for d in (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 100, 8192, 16385, 70_001, 1_100_000):
        key, seed = (p.sha256(f"packed, {what} {d}".encode()) for what in ("numbers", "seed"))
        x = numbers(key, d)
        there, back = rotate(x, seed).tobytes(), unrotate(x, seed).tobytes()
        record = {"elements": d, "numbers_key": key.hex(), "seed": seed.hex()}
        if d <= 100:
            record |= {"numbers": x.tobytes().hex(), "rotated": there.hex(), "unrotated": back.hex()}
        out.append(record | {"rotated_sha256": p.sha256(there).hex(), "unrotated_sha256": p.sha256(back).hex()})
    return out


def packings() -> list:
    out = []
    for count in (0, 1, 2, 3, 4, 5, 9):
        words = p.mask_words(p.sha256(f"packed, words {count}".encode()), 0, count)
        out.append({"words": words.tobytes().hex(), "packed": p.wire_bytes(words, 24).hex()})
    return out


def packed_json(format_: str) -> dict:
    job = p.sha256(b"packed, job")
    seeds = [{"job": job.hex(), "round": r, "attempt": a, "seed": rotation_seed(job, r, a).hex()}
             for r, a in ((0, 0), (1, 0), (0, 1), (70_000, 3))]  # fmt: skip
    return {"format": format_, "rotation_seeds": seeds, "rotations": rotations(), "packings": packings()}
