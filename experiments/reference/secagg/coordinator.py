"""The coordinator of one attempt: the sets, the checks on what sites say, and the sum."""

import numpy as np

from . import messages as m
from . import pairwise as pw
from . import primitives as p
from . import shamir
from .worker import Refused, pair_mask_key, require, self_mask_key, sorted_once


class Convicted(Exception):
    """A dealer whose shares match their commitments and rebuild a wrong secret."""

    def __init__(self, dealer: int):
        super().__init__(f"site {dealer}")
        self.dealer = dealer


class Coordinator:
    """Takes the messages of a step one by one; close_* fixes the step's set and makes the next messages."""

    def __init__(self, offer: m.Offer, key: p.Identity, sites: dict[int, bytes], chains: dict[int, str],
                 modulus_bits: int = 32, pairwise: bool = False):  # fmt: skip
        """sites: each site's identity key. pairwise: the job asks for pairwise keys."""
        self.pairwise = pairwise
        self.modulus_bits = modulus_bits  # the job's
        self.offer, self.key, self.sites, self.chains = offer, key, sites, chains
        self.t0 = m.transcript_t0(offer)
        self.step = "advert"
        self.got: dict[str, dict[int, m.Signed]] = {}
        self.uploads: dict[int, np.ndarray] = {}
        self.u1 = self.u2 = self.u3 = ()

    def sign(self, what) -> m.Signed:
        return m.sign(self.key, what)

    def _receive(self, message: m.Signed, site: int, step: str, members, check) -> None:
        what = message.what
        require(what.id == self.offer.id, "wrong-attempt")
        require(site in self.sites, "outside-set")
        holds = p.signature_holds(self.sites[site], what.domain, what.body(), message.signature)
        require(holds, "bad-signature")
        before = self.got.get(step, {}).get(site)
        if before is not None:
            require(before.what.body() == what.body(), "repeat-differs")
            return
        require(self.step == step, "late" if STEPS.index(self.step) > STEPS.index(step) else "wrong-phase")
        require(site in members, "outside-set")
        check(what)
        self.got.setdefault(step, {})[site] = message

    def on_advert(self, message: m.Signed) -> None:
        def check(advert: m.Advert) -> None:
            require(advert.t0 == self.t0, "transcript")
            others = [a.what for a in self.got.get("advert", {}).values()]
            points = [k for a in [*others, advert] for k in (a.channel_key, a.mask_key)]
            require(len(set(points)) == len(points), "duplicate-key")
            require(advert.seed_hash not in [a.seed_hash for a in others], "duplicate-key")
            for point in (advert.channel_key, advert.mask_key):
                try:
                    p.x25519(bytes(32), point)
                except ValueError:
                    raise Refused("duplicate-key", "a point of low order") from None

        self._receive(message, message.what.site, "advert", self.sites, check)

    def close_adverts(self) -> m.Signed:
        adverts = self.got["advert"]
        self.u1 = tuple(sorted(adverts))
        assert len(self.u1) >= self.offer.min_survivors
        self.t1 = m.transcript_t1(self.t0, [adverts[s].what for s in self.u1])
        self.step = "shares"
        chains = tuple(self.chains[s] for s in self.u1)
        return self.sign(m.Keys(self.offer.id, tuple(adverts[s] for s in self.u1), chains))

    def on_shares(self, message: m.Signed) -> None:
        def check(shares: m.Shares) -> None:
            require(shares.t1 == self.t1, "transcript")
            require(tuple(c.holder for c in shares.commitments) == self.u1, "malformed")
            require(len(shares.ciphertexts) == len(self.u1), "malformed")
            require(len(shares.pair_seals) == (len(self.u1) if self.pairwise else 0), "malformed")

        self._receive(message, message.what.dealer, "shares", self.u1, check)

    def close_shares(self) -> dict[int, m.Signed]:
        shares = self.got["shares"]
        self.u2 = tuple(sorted(shares))
        assert len(self.u2) >= self.offer.min_survivors
        self.t2 = m.transcript_t2(self.t1, [(s, shares[s].what.commitments) for s in self.u2])
        self.step = "input"
        return {to: self.sign(self.delivery(to)) for to in self.u2}

    def delivery(self, to: int) -> m.Delivery:
        column = self.u1.index(to)
        rows, tags = [], []
        for dealer in self.u2:
            signed = self.got["shares"][dealer]
            if self.pairwise:
                tags.append(signed.what.pair_seals[column][:32])
            ciphertext = signed.what.ciphertexts[column]
            rows.append(m.Row(dealer, signed.what.commitments, signed.signature, ciphertext))
        return m.Delivery(self.offer.id, to, self.t1, tuple(rows), tuple(tags))

    def on_upload(self, y: np.ndarray, message: m.Signed) -> None:
        def check(header: m.InputHeader) -> None:
            require(header.t2 == self.t2, "transcript")
            require(header.elements == self.offer.elements, "elements")
            require(header.elements == len(y), "digest")
            require(header.sha256 == p.sha256(p.wire_bytes(y, self.modulus_bits)), "digest")

        site = message.what.site
        self._receive(message, site, "input", self.u2, check)
        self.uploads[site] = y & np.uint32(2**self.modulus_bits - 1)  # no more was sent

    def close_inputs(self) -> m.Signed:
        headers = self.got["input"]
        self.u3 = tuple(sorted(headers))
        assert len(self.u3) >= self.offer.min_survivors
        self.step = "agreement"
        return self.sign(m.Survivors(self.offer.id, self.t2, tuple(headers[s] for s in self.u3)))

    def on_agreement(self, message: m.Signed) -> None:
        def check(agreement: m.Agreement) -> None:
            require(agreement.t2 == self.t2, "transcript")
            require(agreement.survivors == self.u3, "transcript")

        self._receive(message, message.what.site, "agreement", self.u3, check)

    def close_agreements(self) -> m.Signed:
        signatures = tuple((s, a.signature) for s, a in sorted(self.got["agreement"].items()))
        assert len(signatures) >= self.offer.threshold
        self.step = "unmask"
        return self.sign(m.Bundle(self.offer.id, self.t2, self.u3, signatures))

    def on_unmask(self, message: m.Signed) -> None:
        self._receive(message, message.what.site, "unmask", self.u3, self._check_unmask)

    def _check_unmask(self, unmask: m.Unmask) -> None:
        require(unmask.t2 == self.t2, "transcript")
        seeds = [o.dealer for o in unmask.seed_shares]
        keys = [o.dealer for o in unmask.mask_key_shares]
        require(sorted_once(seeds) and sorted_once(keys), "malformed")
        lost = tuple(s for s in self.u2 if s not in self.u3)
        require((tuple(seeds), tuple(keys)) == (self.u3, lost), "both-kinds")
        column = self.u1.index(unmask.site)
        for kind, shares in ((m.SEED, unmask.seed_shares), (m.MASK_KEY, unmask.mask_key_shares)):
            for o in shares:
                committed = self.got["shares"][o.dealer].what.commitments[column]
                expected = committed.seed_share if kind == m.SEED else committed.mask_key_share
                got = m.share_commitment(kind, o.dealer, unmask.site, o.share, o.salt)
                require(got == expected, "bad-share")

    def close_unmask(self) -> np.ndarray:
        """The sum of the survivors' x_i. Convicted when a secret that comes out is not its advert's."""
        answers = [a.what for a in self.got["unmask"].values()][: self.offer.threshold]
        assert len(answers) >= self.offer.threshold
        total = sum((self.uploads[s] for s in self.u3), np.zeros(self.offer.elements, dtype="<u4"))
        adverts = {s: a.what for s, a in self.got["advert"].items()}
        for j in self.u3:
            seed = shamir.combine({a.site: a.seed_shares[self.u3.index(j)].share for a in answers})
            if p.sha256(seed) != adverts[j].seed_hash:
                raise Convicted(j)
            total = total - p.mask_words(self_mask_key(seed, self.t2, j), 0, len(total))
        lost = [s for s in self.u2 if s not in self.u3]
        for k, j in enumerate(lost):
            root = shamir.combine({a.site: a.mask_key_shares[k].share for a in answers})
            secret = pw.mask_secret(root) if self.pairwise else root
            if p.x25519_public(secret) != adverts[j].mask_key:
                raise Convicted(j)
            for i in self.u3:  # i added G when j < i and took it off when j > i
                key = self._pair_mask_key(p.x25519(secret, adverts[i].mask_key), root, i, j)
                mask = p.mask_words(key, 0, len(total))
                total = total - mask if j < i else total + mask
        self.step = "result"
        return total & np.uint32(2**self.modulus_bits - 1)

    def _pair_mask_key(self, shared: bytes, root: bytes, survivor: int, lost: int) -> bytes:
        if not self.pairwise:
            return pair_mask_key(shared, self.t2, survivor, lost)
        seal = self.got["shares"][lost].what.pair_seals[self.u1.index(survivor)]
        part = pw.open_seal(root, seal, self.t1, lost, survivor)
        if part is None:
            raise Convicted(lost)
        return pw.mask_key(shared, part, self.t2, survivor, lost)

    def result(self, total: np.ndarray, new_adapter: bytes) -> m.Signed:
        digest = p.sha256(p.wire_bytes(total, self.modulus_bits))
        return self.sign(m.Result(self.offer.id, self.t2, self.u3, digest, new_adapter))


STEPS = ["advert", "shares", "input", "agreement", "unmask", "result"]

__all__ = ["Coordinator", "Convicted", "Refused", "STEPS"]
