"""A site in one attempt: what it answers, and what it refuses ("Rules" of the page)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from . import messages as m
from . import pairwise as pw
from . import primitives as p
from . import shamir


class Refused(Exception):
    """The names are those of privacy/secagg/refusal.h."""

    def __init__(self, code: str, why: str = ""):
        super().__init__(f"{code}: {why}")
        self.code = code


def require(condition: bool, code: str, why: str = "") -> None:
    if not condition:
        raise Refused(code, why)


def sorted_once(sites) -> bool:
    sites = list(sites)
    return all(a < b for a, b in zip(sites, sites[1:]))


def jurisdiction(spiffe_id: str) -> str:
    return spiffe_id.removeprefix("spiffe://").split("/")[0]


@dataclass(frozen=True)
class Draws:
    """All that a site draws in an attempt, in the order of use."""

    channel_secret: bytes
    mask_secret: bytes
    seed: bytes
    mask_key_coefficients: tuple[bytes, ...]  # of x^1 .. x^(t-1)
    seed_coefficients: tuple[bytes, ...]
    salts: tuple[tuple[bytes, bytes], ...]  # for each holder of U1 in order: mask key share, seed share


@dataclass(frozen=True)
class Expected:
    """What a worker knows before an offer comes, and its region's limits (those of the vectors' README)."""

    id: m.AttemptId
    charter: bytes
    base_model: bytes
    adapter: bytes
    elements: int
    jurisdictions: frozenset[str]
    modulus_bits: int = 32  # the job's
    max_attempts: int = 8
    min_deadlines: tuple[int, ...] = (1_000,) * 5
    max_deadlines: tuple[int, ...] = (600_000, 600_000, 86_400_000, 600_000, 600_000)


def check_offer(offer: m.Offer, expected: Expected) -> None:
    require(offer.id == expected.id, "wrong-attempt")
    require(offer.charter == expected.charter, "charter")
    require((offer.base_model, offer.adapter) == (expected.base_model, expected.adapter), "model")
    require(offer.elements == expected.elements, "elements")
    names = [who for who, _ in offer.roster]
    per_jurisdiction = Counter(jurisdiction(who) for who in names)
    require(len(set(names)) == len(names), "roster", "a site twice")
    require(len({key for _, key in offer.roster}) == len(names), "roster", "a key twice")
    require(set(per_jurisdiction) <= expected.jurisdictions, "roster", "unknown jurisdiction")
    n, t, s, colluding = len(names), offer.threshold, offer.min_survivors, offer.colluding
    require(3 <= n <= 100 and len(per_jurisdiction) >= 3, "cohort-too-small")
    by_size = [count for _, count in per_jurisdiction.most_common()]
    coalition = sum(by_size[:colluding])
    require(2 * n // 3 + 1 <= t <= n, "threshold")
    require(2 * t > n + coalition, "threshold", "two sets could each gather t signatures")
    require(t <= s <= n, "survivor-minimum")
    require(colluding >= 1, "colluding")
    fewest, covered = 0, 0  # jurisdictions that s survivors can come from: the largest first
    while covered < s:
        covered += by_size[fewest]
        fewest += 1
    require(s - coalition >= 2 and fewest - colluding >= 2, "honest-minimum")
    bounds = zip(expected.min_deadlines, offer.deadlines, expected.max_deadlines)
    require(all(low <= d <= high for low, d, high in bounds), "deadlines")
    require(1 <= offer.attempts <= expected.max_attempts, "attempts")
    require(offer.id.attempt < offer.attempts, "attempts", "attempts count from 0")


class Worker:
    def __init__(self, name: str, key: p.Identity, coordinator: bytes, chains: dict, expected: Expected,
                 ledger_head: bytes, draws: Draws, pairwise: dict[str, bytes] | None = None):  # fmt: skip
        """chains: chain text -> (SPIFFE ID, key hash, public key): what certificate validation would say.

        pairwise: SPIFFE ID -> key; None in a job without pairwise keys. The drawn mask secret is then the root.
        """
        self.pairwise = pairwise
        self.mask_secret = draws.mask_secret if pairwise is None else pw.mask_secret(draws.mask_secret)
        self.name, self.key, self.coordinator, self.chains = name, key, coordinator, chains
        self.expected, self.ledger_head, self.draws = expected, ledger_head, draws
        self.phase = 0
        self.answered: dict[str, tuple[m.Signed, object]] = {}

    def _receive(self, message: m.Signed, kind, phase: int, handle):
        """A repeat gets the same answer, another one for the same step is refused, as is one out of step."""
        require(isinstance(message.what, kind), "malformed")
        require(message.what.id == self.expected.id, "wrong-attempt")
        holds = p.signature_holds(self.coordinator, kind.domain, message.what.body(), message.signature)
        require(holds, "bad-signature")
        if kind.domain in self.answered:
            before, answer = self.answered[kind.domain]
            require(before.what.body() == message.what.body(), "repeat-differs")
            return answer
        require(self.phase == phase, "wrong-phase")
        answer = handle(message.what)
        self.answered[kind.domain] = (message, answer)
        return answer

    # Step 1.
    def on_offer(self, message: m.Signed) -> m.Signed:
        return self._receive(message, m.Offer, 0, self._offer)

    def _offer(self, offer: m.Offer) -> m.Signed:
        check_offer(offer, self.expected)
        require((self.name, self.key.key_hash) in offer.roster, "roster")
        self.site = offer.roster.index((self.name, self.key.key_hash)) + 1
        if self.pairwise is not None:
            require({who for who, _ in offer.roster} - {self.name} <= set(self.pairwise), "pairwise-key")
        self.offer, self.t0 = offer, m.transcript_t0(offer)
        d = self.draws
        self.advert = m.Advert(
            offer.id, self.site, p.x25519_public(d.channel_secret), p.x25519_public(self.mask_secret),
            p.sha256(d.seed), self.t0, self.ledger_head,
        )  # fmt: skip
        self.phase = 1
        return m.sign(self.key, self.advert)

    # Step 3.
    def on_keys(self, message: m.Signed) -> m.Signed:
        return self._receive(message, m.Keys, 1, self._keys)

    def _keys(self, keys: m.Keys) -> m.Signed:
        adverts = {a.what.site: a.what for a in keys.adverts}
        require(sorted_once(a.what.site for a in keys.adverts), "malformed")
        require(len(keys.chains) == len(keys.adverts), "malformed")
        require(all(1 <= site <= len(self.offer.roster) for site in adverts), "malformed")
        require(self.site in adverts, "self-missing")
        require(adverts[self.site] == self.advert, "own-message-changed")
        require(len(adverts) >= self.offer.min_survivors, "too-few-adverts")
        public = {}
        for signed, chain in zip(keys.adverts, keys.chains):
            advert = signed.what
            require(advert.id == self.expected.id, "wrong-attempt")
            require(advert.t0 == self.t0, "transcript")
            require(chain in self.chains, "untrusted-peer")
            name, key_hash, key = self.chains[chain]
            require((name, key_hash) == self.offer.roster[advert.site - 1], "untrusted-peer")
            holds = p.signature_holds(key, m.Advert.domain, advert.body(), signed.signature)
            require(holds, "bad-signature")
            public[advert.site] = key
        points = [k for a in adverts.values() for k in (a.channel_key, a.mask_key)]
        require(len(set(points)) == len(points), "duplicate-key")
        require(len({a.seed_hash for a in adverts.values()}) == len(adverts), "duplicate-key")
        shared = {}
        for site, advert in adverts.items():
            try:
                channel = p.x25519(self.draws.channel_secret, advert.channel_key)
                mask = p.x25519(self.mask_secret, advert.mask_key)
            except ValueError:
                raise Refused("duplicate-key", "a point of low order") from None
            shared[site] = (channel, mask)
        self.adverts, self.public, self.shared = adverts, public, shared
        self.t1 = m.transcript_t1(self.t0, adverts.values())
        self.phase = 2
        return m.sign(self.key, self._deal())

    def _deal(self) -> m.Shares:
        commitments, ciphertexts = [], []
        for holder, (mask_salt, seed_salt) in zip(self.adverts, self.draws.salts, strict=True):
            mask_share = shamir.share(self.draws.mask_secret, self.draws.mask_key_coefficients, holder)
            seed_share = shamir.share(self.draws.seed, self.draws.seed_coefficients, holder)
            commitments.append(m.Commitment(
                holder,
                m.share_commitment(m.MASK_KEY, self.site, holder, mask_share, mask_salt),
                m.share_commitment(m.SEED, self.site, holder, seed_share, seed_salt),
            ))  # fmt: skip
            plain = mask_share + mask_salt + seed_share + seed_salt
            ciphertexts.append(p.seal(self._share_key(self.site, holder), self._share_aad(self.site, holder), plain))
        seals = () if self.pairwise is None else tuple(self._pair_seal(holder) for holder in self.adverts)
        self.shares = m.Shares(self.expected.id, self.site, self.t1, tuple(commitments), tuple(ciphertexts), seals)
        return self.shares

    def _pair_key(self, peer: int) -> bytes:
        if peer == self.site:
            return pw.own_key(self.draws.mask_secret, self.draws.seed)
        return self.pairwise[self.offer.roster[peer - 1][0]]

    def _pair_seal(self, holder: int) -> bytes:
        part = pw.mask_part(self._pair_key(holder), self.t1, self.site, holder)
        return pw.seal(self.draws.mask_secret, part, self.t1, self.site, holder)

    def _share_key(self, dealer: int, holder: int) -> bytes:
        peer = holder if dealer == self.site else dealer
        if self.pairwise is None:
            return p.hkdf(self.shared[peer][0], self.t1, b"share" + bytes([dealer, holder]))
        part = pw.share_part(self._pair_key(peer), self.t1, dealer, holder)
        return pw.share_key(self.shared[peer][0], part, self.t1, dealer, holder)

    def _share_aad(self, dealer: int, holder: int) -> bytes:
        return self.t1 + bytes([dealer, holder])

    # Step 5 of the page's list: nothing to answer, or a complaint.
    def on_delivery(self, message: m.Signed) -> m.Signed | None:
        return self._receive(message, m.Delivery, 2, self._delivery)

    def _delivery(self, delivery: m.Delivery) -> m.Signed | None:
        require(delivery.to == self.site, "malformed")
        require(delivery.t1 == self.t1, "transcript")
        dealers = [r.dealer for r in delivery.rows]
        require(sorted_once(dealers), "malformed")
        require(len(delivery.pair_tags) == (0 if self.pairwise is None else len(dealers)), "malformed")
        tags = dict(zip(dealers, delivery.pair_tags))
        require(set(dealers) <= set(self.adverts), "outside-set")
        require(self.site in dealers, "self-missing")
        require(len(dealers) >= self.offer.min_survivors, "too-few-dealers")
        own = next(r for r in delivery.rows if r.dealer == self.site)
        mine = (self.shares.commitments, self.shares.ciphertexts[list(self.adverts).index(self.site)])
        require((own.commitments, own.ciphertext) == mine, "own-message-changed")
        own_tags = dict(zip(self.adverts, (seal[:32] for seal in self.shares.pair_seals)))
        require(tags.get(self.site) == own_tags.get(self.site), "own-message-changed")
        for row in delivery.rows:
            require([c.holder for c in row.commitments] == list(self.adverts), "malformed")
        held = {}
        for row in delivery.rows:
            fault = self._open_row(row, held, tags.get(row.dealer))
            if fault:
                self.phase = -1
                return m.sign(self.key, m.Complaint(self.expected.id, self.site, row.dealer, self.t1, fault))
        self.held = held
        self.t2 = m.transcript_t2(self.t1, [(r.dealer, r.commitments) for r in delivery.rows])
        self.dealers = dealers
        self.phase = 3
        return None

    def _open_row(self, row: m.Row, held: dict, tag: bytes | None) -> int:
        """0, or the complaint's code: 1 cannot decrypt, 2 commitment mismatch, 3 bad signature, 4 another pair tag."""
        body = m.Shares(self.expected.id, row.dealer, self.t1, row.commitments).body()
        if not p.signature_holds(self.public[row.dealer], m.Shares.domain, body, row.signature):
            return 3
        if self.pairwise is not None:
            part = pw.mask_part(self._pair_key(row.dealer), self.t1, row.dealer, self.site)
            if pw.tag(part, self.t1, row.dealer, self.site) != tag:
                return 4
        key, aad = self._share_key(row.dealer, self.site), self._share_aad(row.dealer, self.site)
        plain = p.unseal(key, aad, row.ciphertext)
        if plain is None:
            return 1
        mask_share, mask_salt, seed_share, seed_salt = (plain[i : i + 32] for i in range(0, 128, 32))
        mine = next(c for c in row.commitments if c.holder == self.site)
        opened = m.Commitment(
            self.site,
            m.share_commitment(m.MASK_KEY, row.dealer, self.site, mask_share, mask_salt),
            m.share_commitment(m.SEED, row.dealer, self.site, seed_share, seed_salt),
        )
        held[row.dealer] = (
            m.Opened(row.dealer, mask_share, mask_salt),
            m.Opened(row.dealer, seed_share, seed_salt),
        )
        return 0 if opened == mine else 2

    # Step 6.
    def mask_keys(self) -> tuple[bytes, dict[int, bytes]]:
        """s_i, and k_ij for each j of U2."""
        own = self_mask_key(self.draws.seed, self.t2, self.site)
        pairs = {j: self._pair_mask_key(j) for j in self.dealers if j != self.site}
        return own, pairs

    def _pair_mask_key(self, peer: int) -> bytes:
        if self.pairwise is None:
            return pair_mask_key(self.shared[peer][1], self.t2, self.site, peer)
        part = pw.mask_part(self._pair_key(peer), self.t1, self.site, peer)
        return pw.mask_key(self.shared[peer][1], part, self.t2, self.site, peer)

    def input(self, x: np.ndarray) -> tuple[np.ndarray, m.Signed]:
        require(self.phase == 3, "wrong-phase")
        own, pairs = self.mask_keys()
        y = x + p.mask_words(own, 0, len(x))
        for j, key in pairs.items():
            mask = p.mask_words(key, 0, len(x))
            y = y + mask if j < self.site else y - mask
        digest = p.sha256(p.wire_bytes(y, self.expected.modulus_bits))
        self.header = m.InputHeader(self.expected.id, self.site, self.t2, len(y), digest)
        self.phase = 4
        return y, m.sign(self.key, self.header)

    # Step 7.
    def on_survivors(self, message: m.Signed) -> m.Signed:
        return self._receive(message, m.Survivors, 4, self._survivors)

    def _survivors(self, survivors: m.Survivors) -> m.Signed:
        require(survivors.t2 == self.t2, "transcript")
        sites = [h.what.site for h in survivors.headers]
        require(sorted_once(sites), "malformed")
        require(set(sites) <= set(self.dealers), "outside-set")
        require(self.site in sites, "self-missing")
        require(len(sites) >= self.offer.min_survivors, "too-few-survivors")
        for signed in survivors.headers:
            header = signed.what
            require(header.id == self.expected.id, "wrong-attempt")
            require(header.t2 == self.t2, "transcript")
            require(header.elements == self.offer.elements, "elements")
            require(header.site != self.site or header == self.header, "own-message-changed")
            key = self.public[header.site]
            holds = p.signature_holds(key, m.InputHeader.domain, header.body(), signed.signature)
            require(holds, "bad-signature")
        self.survivors = tuple(sites)
        self.phase = 5
        return m.sign(self.key, m.Agreement(self.expected.id, self.site, self.t2, self.survivors))

    # Step 8.
    def on_bundle(self, message: m.Signed) -> m.Signed:
        return self._receive(message, m.Bundle, 5, self._bundle)

    def _bundle(self, bundle: m.Bundle) -> m.Signed:
        require(bundle.t2 == self.t2, "transcript")
        require(bundle.survivors == self.survivors, "transcript", "not the U3 that I signed")
        signers = [s for s, _ in bundle.signatures]
        require(sorted_once(signers), "malformed")
        require(set(signers) <= set(self.survivors), "outside-set")
        require(len(signers) >= self.offer.threshold, "too-few-agreements")
        for site, signature in bundle.signatures:
            body = m.Agreement(self.expected.id, site, self.t2, self.survivors).body()
            holds = p.signature_holds(self.public[site], m.Agreement.domain, body, signature)
            require(holds, "bad-signature")
        seeds = tuple(self.held[j][1] for j in self.survivors)
        keys = tuple(self.held[j][0] for j in self.dealers if j not in self.survivors)
        self.phase = 6
        return m.sign(self.key, m.Unmask(self.expected.id, self.site, self.t2, seeds, keys))

    # Step 9.
    def on_result(self, message: m.Signed) -> None:
        return self._receive(message, m.Result, 6, self._result)

    def _result(self, result: m.Result) -> None:
        require(result.t2 == self.t2, "transcript")
        require(result.survivors == self.survivors, "transcript", "not the U3 that I signed")
        self.phase = 7


def self_mask_key(seed: bytes, t2: bytes, site: int) -> bytes:
    return p.hkdf(seed, t2, b"self" + bytes([site]))


def pair_mask_key(shared: bytes, t2: bytes, a: int, b: int) -> bytes:
    return p.hkdf(shared, t2, b"mask" + bytes([min(a, b), max(a, b)]))
