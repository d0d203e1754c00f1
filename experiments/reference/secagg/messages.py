"""The bodies of "Formats": what is signed and hashed, byte for byte."""

import struct
from dataclasses import dataclass, field
from typing import ClassVar

from .primitives import Identity, tagged_hash


def u8(v: int) -> bytes:
    return struct.pack("<B", v)


def u32(v: int) -> bytes:
    return struct.pack("<I", v)


def u64(v: int) -> bytes:
    return struct.pack("<Q", v)


def listed(items) -> bytes:
    items = list(items)
    return u32(len(items)) + b"".join(items)


def sized(raw: bytes) -> bytes:
    """A byte string of no fixed size, a body within a body too: after its u32 length."""
    return u32(len(raw)) + raw


def text(v: str) -> bytes:
    return sized(v.encode())


@dataclass(frozen=True)
class AttemptId:
    job: bytes
    round: int
    attempt: int

    def body(self) -> bytes:
        return self.job + u32(self.round) + u32(self.attempt)


@dataclass(frozen=True)
class Offer:
    domain: ClassVar[str] = "concordat/v1/offer"
    id: AttemptId
    charter: bytes
    base_model: bytes
    adapter: bytes
    elements: int
    threshold: int
    min_survivors: int
    colluding: int
    attempts: int
    deadlines: tuple[int, ...]  # advert, shares, input, agreement, unmask
    roster: tuple[tuple[str, bytes], ...]  # SPIFFE ID, key hash; site i is roster[i - 1]

    def body(self) -> bytes:
        return (
            self.id.body() + self.charter + self.base_model + self.adapter + u64(self.elements)
            + u32(self.threshold) + u32(self.min_survivors) + u32(self.colluding) + u32(self.attempts)
            + b"".join(u32(d) for d in self.deadlines) + listed(text(who) + key for who, key in self.roster)
        )  # fmt: skip


@dataclass(frozen=True)
class Advert:
    domain: ClassVar[str] = "concordat/v1/advert"
    id: AttemptId
    site: int
    channel_key: bytes
    mask_key: bytes
    seed_hash: bytes
    t0: bytes
    ledger_head: bytes

    def body(self) -> bytes:
        return (
            self.id.body() + u8(self.site) + self.channel_key + self.mask_key + self.seed_hash + self.t0
            + self.ledger_head
        )  # fmt: skip


@dataclass(frozen=True)
class Signed:
    what: object
    signature: bytes

    def nested(self) -> bytes:
        """As another body holds it: the body after its u32 length, then the signature."""
        return sized(self.what.body()) + self.signature


@dataclass(frozen=True)
class Keys:
    domain: ClassVar[str] = "concordat/v1/keys"
    id: AttemptId
    adverts: tuple[Signed, ...]
    chains: tuple[str, ...]

    def body(self) -> bytes:
        return self.id.body() + listed(a.nested() for a in self.adverts) + listed(text(c) for c in self.chains)


@dataclass(frozen=True)
class Commitment:
    holder: int
    mask_key_share: bytes
    seed_share: bytes

    def body(self) -> bytes:
        return u8(self.holder) + self.mask_key_share + self.seed_share


def commitments_body(commitments) -> bytes:
    return listed(c.body() for c in commitments)


@dataclass(frozen=True)
class Shares:
    domain: ClassVar[str] = "concordat/v1/shares"
    id: AttemptId
    dealer: int
    t1: bytes
    commitments: tuple[Commitment, ...]
    ciphertexts: tuple[bytes, ...] = field(compare=False, default=())  # beside the signed body
    pair_seals: tuple[bytes, ...] = field(compare=False, default=())  # likewise; empty without pairwise keys

    def body(self) -> bytes:
        return self.id.body() + u8(self.dealer) + self.t1 + commitments_body(self.commitments)


@dataclass(frozen=True)
class Row:
    dealer: int
    commitments: tuple[Commitment, ...]
    signature: bytes
    ciphertext: bytes

    def body(self) -> bytes:
        return u8(self.dealer) + commitments_body(self.commitments) + self.signature + self.ciphertext


@dataclass(frozen=True)
class Delivery:
    domain: ClassVar[str] = "concordat/v1/delivery"
    id: AttemptId
    to: int
    t1: bytes
    rows: tuple[Row, ...]
    pair_tags: tuple[bytes, ...] = ()  # one for each row; empty without pairwise keys

    def body(self) -> bytes:
        tags = listed(self.pair_tags) if self.pair_tags else b""
        return self.id.body() + u8(self.to) + self.t1 + listed(r.body() for r in self.rows) + tags


@dataclass(frozen=True)
class Complaint:
    domain: ClassVar[str] = "concordat/v1/complaint"
    id: AttemptId
    site: int
    accused: int
    t1: bytes
    code: int

    def body(self) -> bytes:
        return self.id.body() + u8(self.site) + u8(self.accused) + self.t1 + u8(self.code)


@dataclass(frozen=True)
class InputHeader:
    domain: ClassVar[str] = "concordat/v1/input"
    id: AttemptId
    site: int
    t2: bytes
    elements: int
    sha256: bytes

    def body(self) -> bytes:
        return self.id.body() + u8(self.site) + self.t2 + u64(self.elements) + self.sha256


@dataclass(frozen=True)
class Survivors:
    domain: ClassVar[str] = "concordat/v1/survivors"
    id: AttemptId
    t2: bytes
    headers: tuple[Signed, ...]

    def body(self) -> bytes:
        return self.id.body() + self.t2 + listed(h.nested() for h in self.headers)


@dataclass(frozen=True)
class Agreement:
    domain: ClassVar[str] = "concordat/v1/agreement"
    id: AttemptId
    site: int
    t2: bytes
    survivors: tuple[int, ...]

    def body(self) -> bytes:
        return self.id.body() + u8(self.site) + self.t2 + listed(u8(s) for s in self.survivors)


@dataclass(frozen=True)
class Bundle:
    domain: ClassVar[str] = "concordat/v1/agreement-bundle"
    id: AttemptId
    t2: bytes
    survivors: tuple[int, ...]
    signatures: tuple[tuple[int, bytes], ...]

    def body(self) -> bytes:
        return (
            self.id.body() + self.t2 + listed(u8(s) for s in self.survivors)
            + listed(u8(s) + signature for s, signature in self.signatures)
        )  # fmt: skip


@dataclass(frozen=True)
class Opened:
    dealer: int
    share: bytes
    salt: bytes


@dataclass(frozen=True)
class Unmask:
    domain: ClassVar[str] = "concordat/v1/unmask"
    id: AttemptId
    site: int
    t2: bytes
    seed_shares: tuple[Opened, ...]
    mask_key_shares: tuple[Opened, ...]

    def body(self) -> bytes:
        def opened(kind, shares):
            return listed(u8(o.dealer) + share_commitment(kind, o.dealer, self.site, o.share, o.salt) for o in shares)

        return (
            self.id.body() + u8(self.site) + self.t2 + opened(SEED, self.seed_shares)
            + opened(MASK_KEY, self.mask_key_shares)
        )  # fmt: skip


@dataclass(frozen=True)
class Result:
    domain: ClassVar[str] = "concordat/v1/result"
    id: AttemptId
    t2: bytes
    survivors: tuple[int, ...]
    sum_sha256: bytes
    new_adapter: bytes

    def body(self) -> bytes:
        return (
            self.id.body() + self.t2 + listed(u8(s) for s in self.survivors) + self.sum_sha256 + self.new_adapter
        )  # fmt: skip


MASK_KEY, SEED = 1, 2


def share_commitment(kind: int, dealer: int, holder: int, share: bytes, salt: bytes) -> bytes:
    return tagged_hash("concordat/v1/share-commitment", u8(kind) + u8(dealer) + u8(holder) + share + salt)


def sign(key: Identity, what) -> Signed:
    return Signed(what, key.sign(what.domain, what.body()))


def transcript_t0(offer: Offer) -> bytes:
    return tagged_hash("concordat/v1/t0", offer.body())


def transcript_t1(t0: bytes, adverts) -> bytes:
    return tagged_hash("concordat/v1/t1", t0 + listed(sized(a.body()) for a in adverts))


def transcript_t2(t1: bytes, dealers) -> bytes:
    """dealers: (dealer, commitments) sorted by dealer."""
    return tagged_hash("concordat/v1/t2", t1 + listed(u8(d) + commitments_body(c) for d, c in dealers))
