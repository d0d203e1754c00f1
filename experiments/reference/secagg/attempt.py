"""Plays one whole attempt from secrets that a label gives, and writes down every byte of it."""

from dataclasses import dataclass

import numpy as np

from . import messages as m
from . import packed
from . import primitives as p
from .coordinator import Convicted, Coordinator
from .worker import Draws, Expected, Worker

FORMAT = "concordat secure aggregation vectors, version 1"


@dataclass(frozen=True)
class Plan:
    """losses: site -> the step that it does not answer any more. cheat: a dealer that shares another mask key."""

    name: str
    about: str
    n: int
    t: int
    m: int
    elements: int
    losses: dict[int, str]
    cheat: int = 0
    modulus_bits: int = 32  # 24: x is an encoded delta, and vectors are packed
    pairwise: bool = False  # the job asks for pairwise keys


class CheatingWorker(Worker):
    """Deals shares of another mask key than it advertised; commitments and ciphertexts are made by the book."""

    def _deal(self) -> m.Shares:
        honest, wrong = self.draws, p.sha256(b"another mask key")
        self.draws = Draws(
            honest.channel_secret, wrong, honest.seed, honest.mask_key_coefficients, honest.seed_coefficients,
            honest.salts,
        )  # fmt: skip
        shares = super()._deal()
        self.draws = honest
        return shares


class World:
    """Sites, keys, the offer and all draws of a plan."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.coordinator_key = p.Identity(self.secret("coordinator"))
        self.id = m.AttemptId(self.secret("job"), 4, 1)
        self.sites = range(1, plan.n + 1)
        self.names = {i: f"spiffe://law{i}.example/worker/site-{i}" for i in self.sites}
        self.identities = {i: p.Identity(self.secret(f"identity {i}")) for i in self.sites}
        self.chain_of = {i: f"the certificate chain of site {i}\n" for i in self.sites}
        self.chains = {
            self.chain_of[i]: (self.names[i], self.identities[i].key_hash, self.identities[i].public)
            for i in self.sites
        }
        self.offer = m.Offer(
            self.id, self.secret("charter"), self.secret("base model"), self.secret("adapter"), plan.elements,
            plan.t, plan.m, 1, 3, (10_000, 20_000, 300_000, 30_000, 40_000),
            tuple((self.names[i], self.identities[i].key_hash) for i in self.sites),
        )  # fmt: skip
        self.expected = Expected(
            self.id, self.offer.charter, self.offer.base_model, self.offer.adapter, plan.elements,
            frozenset(name.split("/")[2] for name in self.names.values()), plan.modulus_bits,
        )  # fmt: skip
        self.new_adapter = self.secret("new adapter")
        self.u1_size = sum(plan.losses.get(i) != "advert" for i in self.sites)

    def secret(self, what: str) -> bytes:
        return p.sha256(f"{FORMAT}, {self.plan.name}, {what}".encode())

    def draws(self, site: int) -> Draws:
        def d(what: str) -> bytes:
            return self.secret(f"site {site}, {what}")

        return Draws(
            d("channel key"),
            d("mask key"),
            d("seed"),
            tuple(d(f"mask key coefficient {k}") for k in range(1, self.plan.t)),
            tuple(d(f"seed coefficient {k}") for k in range(1, self.plan.t)),
            tuple((d(f"mask key salt {k}"), d(f"seed salt {k}")) for k in range(self.u1_size)),
        )

    def ledger_head(self, site: int) -> bytes:
        return self.secret(f"ledger {site}")

    def rotation_seed(self) -> bytes:
        return packed.rotation_seed(self.id.job, self.id.round, self.id.attempt)

    def delta(self, site: int) -> np.ndarray:
        return packed.numbers(self.secret(f"delta {site}"), self.plan.elements - 1)

    def metric(self, site: int) -> float:
        return site * 1.25 - 3

    def x(self, site: int) -> np.ndarray:
        if self.plan.modulus_bits == 24:
            return packed.encode(self.delta(site), self.metric(site), self.rotation_seed())
        return p.mask_words(self.secret(f"plain {site}"), 0, self.plan.elements)

    def worker(self, site: int) -> Worker:
        kind = CheatingWorker if site == self.plan.cheat else Worker
        return kind(
            self.names[site], self.identities[site], self.coordinator_key.public, self.chains, self.expected,
            self.ledger_head(site), self.draws(site), self.pairwise(site),
        )  # fmt: skip

    def pair_key(self, a: int, b: int) -> bytes:
        return self.secret(f"pairwise key {min(a, b)} {max(a, b)}")

    def pairwise(self, site: int) -> dict[str, bytes] | None:
        if not self.plan.pairwise:
            return None
        return {self.names[j]: self.pair_key(site, j) for j in self.sites if j != site}

    def coordinator(self) -> Coordinator:
        public = {i: self.identities[i].public for i in self.sites}
        return Coordinator(
            self.offer, self.coordinator_key, public, self.chain_of, self.plan.modulus_bits, self.plan.pairwise
        )


class Attempt:
    """All messages of a plan, by step and site. `total` is None when a dealer was convicted."""

    def __init__(self, plan: Plan):
        self.world = World(plan)
        self.coordinator = self.world.coordinator()
        self.workers = {i: self.world.worker(i) for i in self.world.sites}
        self._key_steps()
        self._input_steps()
        self._closing_steps()

    def _there(self, step: str) -> list[int]:
        """Sites not lost at `step` or before, of those that the last set holds."""
        order = ["advert", "shares", "input", "agreement", "unmask"]
        losses = self.world.plan.losses
        return [i for i in self.world.sites if i not in losses or order.index(losses[i]) > order.index(step)]

    def _key_steps(self) -> None:
        c = self.coordinator
        self.offer = c.sign(c.offer)
        self.adverts = {i: self.workers[i].on_offer(self.offer) for i in self._there("advert")}
        for advert in self.adverts.values():
            c.on_advert(advert)
        self.keys = c.close_adverts()
        self.shares = {i: self.workers[i].on_keys(self.keys) for i in self._there("shares")}
        for shares in self.shares.values():
            c.on_shares(shares)
        self.deliveries = c.close_shares()

    def _input_steps(self) -> None:
        c = self.coordinator
        self.inputs = {}
        for i in self._there("input"):
            assert self.workers[i].on_delivery(self.deliveries[i]) is None
            self.inputs[i] = self.workers[i].input(self.world.x(i))
        for y, header in self.inputs.values():
            c.on_upload(y, header)
        self.survivors = c.close_inputs()
        self.agreements = {i: self.workers[i].on_survivors(self.survivors) for i in self._there("agreement")}
        for agreement in list(self.agreements.values())[: c.offer.threshold]:
            c.on_agreement(agreement)
        self.bundle = c.close_agreements()

    def _closing_steps(self) -> None:
        c = self.coordinator
        self.unmasks = {i: self.workers[i].on_bundle(self.bundle) for i in self._there("unmask")}
        for unmask in list(self.unmasks.values())[: c.offer.threshold]:
            c.on_unmask(unmask)
        self.total = self.result = None
        try:
            self.total = c.close_unmask()
        except Convicted as convicted:
            assert convicted.dealer == self.world.plan.cheat
            return
        assert not self.world.plan.cheat
        expected = sum((self.world.x(i) for i in c.u3), np.zeros(c.offer.elements, dtype="<u4"))
        assert p.wire_bytes(self.total, c.modulus_bits) == p.wire_bytes(expected, c.modulus_bits)
        self.result = c.result(self.total, self.world.new_adapter)
        for i in self.unmasks:
            self.workers[i].on_result(self.result)


def words_hex(words: np.ndarray, bits: int = 32) -> str:
    return p.wire_bytes(words, bits).hex()


def signed_json(message: m.Signed) -> dict:
    what = message.what
    record = {"body": what.body().hex(), "signature": message.signature.hex()}
    if isinstance(what, m.Shares):  # beside the body
        record["ciphertexts"] = [c.hex() for c in what.ciphertexts]
        if what.pair_seals:
            record["pair_seals"] = [s.hex() for s in what.pair_seals]
    if isinstance(what, m.Unmask):  # the body holds commitments of these
        for name in ("seed_shares", "mask_key_shares"):
            opened = getattr(what, name)
            record[name] = [{"dealer": o.dealer, "share": o.share.hex(), "salt": o.salt.hex()} for o in opened]
    return record


def attempt_json(attempt: Attempt, whole_deliveries: bool = True) -> dict:
    """Without whole_deliveries their bodies are named by SHA-256 only."""
    w, c = attempt.world, attempt.coordinator

    def by_site(messages: dict[int, m.Signed]) -> list:
        return [{"site": i} | signed_json(message) for i, message in messages.items()]

    deliveries = by_site(attempt.deliveries)
    if not whole_deliveries:
        for delivery in deliveries:
            delivery["body_sha256"] = p.sha256(bytes.fromhex(delivery.pop("body"))).hex()
    record = {
        "format": FORMAT,
        "name": w.plan.name,
        "about": w.plan.about,
        "losses": [{"site": s, "step": step} for s, step in w.plan.losses.items()],
        "coordinator_seed": w.coordinator_key.seed.hex(),
        "sites": [site_json(w, i) for i in w.sites],
        "t0": c.t0.hex(),
        "t1": c.t1.hex(),
        "t2": c.t2.hex(),
        "u1": list(c.u1),
        "u2": list(c.u2),
        "u3": list(c.u3),
        "offer": signed_json(attempt.offer),
        "adverts": by_site(attempt.adverts),
        "keys": signed_json(attempt.keys),
        "shares": by_site(attempt.shares),
        "deliveries": deliveries,
        "inputs": [input_json(attempt, i) for i in attempt.inputs],
        "survivors": signed_json(attempt.survivors),
        "agreements": by_site(attempt.agreements),
        "bundle": signed_json(attempt.bundle),
        "unmasks": by_site(attempt.unmasks),
    }
    if w.plan.pairwise:
        record["pairwise_keys"] = [
            {"i": i, "j": j, "key": w.pair_key(i, j).hex()} for i in w.sites for j in w.sites if i < j
        ]
    if w.plan.modulus_bits == 24:
        record["encoding"] = {
            "modulus_bits": 24, "clip": packed.CLIP, "scale": packed.SCALE, "metric_bound": packed.METRIC_BOUND,
            "metric_scale": packed.METRIC_SCALE, "rotation_seed": w.rotation_seed().hex(),
        }  # fmt: skip
    if attempt.total is None:
        record["convicted"] = w.plan.cheat
        return record
    record["sum"] = words_hex(attempt.total, w.plan.modulus_bits)
    if w.plan.modulus_bits == 24:
        mean, metric = packed.decode(attempt.total, len(c.u3), w.rotation_seed())
        record |= {"mean_delta": mean.tobytes().hex(), "metric_sum": metric}
    record["new_adapter"] = w.new_adapter.hex()
    record["result"] = signed_json(attempt.result)
    return record


def site_json(w: World, site: int) -> dict:
    d = w.draws(site)
    record = {
        "site": site,
        "id": w.names[site],
        "chain": w.chain_of[site],
        "identity_seed": w.identities[site].seed.hex(),
        "ledger_head": w.ledger_head(site).hex(),
        "channel_secret": d.channel_secret.hex(),
        "mask_secret": d.mask_secret.hex(),
        "seed": d.seed.hex(),
        "mask_key_coefficients": [c.hex() for c in d.mask_key_coefficients],
        "seed_coefficients": [c.hex() for c in d.seed_coefficients],
        "salts": [[a.hex(), b.hex()] for a, b in d.salts],
        "x": words_hex(w.x(site), w.plan.modulus_bits),
    }
    if w.plan.modulus_bits == 24:
        record |= {"delta": w.delta(site).tobytes().hex(), "metric": w.metric(site)}
    return record


def input_json(attempt: Attempt, site: int) -> dict:
    y, header = attempt.inputs[site]
    own, pairs = attempt.workers[site].mask_keys()
    record = {"site": site} | signed_json(header)
    record["self_mask_key"] = own.hex()
    record["pair_mask_keys"] = [{"site": j, "key": key.hex()} for j, key in pairs.items()]
    record["y"] = words_hex(y, attempt.world.plan.modulus_bits)
    return record
