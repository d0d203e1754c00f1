"""Keys that two sites carried to each other by hand ("Pairwise keys" of the page)."""

from . import messages as m
from . import primitives as p

LABEL = b"concordat/v1/pairwise/"


def mask_secret(root: bytes) -> bytes:
    return p.hkdf(root, b"", LABEL + b"mask-secret")


def own_key(root: bytes, seed: bytes) -> bytes:
    """A site's key with itself."""
    return p.hkdf(root, seed, LABEL + b"own")


def share_part(key: bytes, t1: bytes, dealer: int, holder: int) -> bytes:
    return p.hkdf(key, t1, LABEL + b"share" + bytes([dealer, holder]))


def mask_part(key: bytes, t1: bytes, a: int, b: int) -> bytes:
    return p.hkdf(key, t1, LABEL + b"mask" + bytes([min(a, b), max(a, b)]))


def share_key(shared: bytes, part: bytes, t1: bytes, dealer: int, holder: int) -> bytes:
    return p.hkdf(shared + part, t1, b"share+pairwise" + bytes([dealer, holder]))


def mask_key(shared: bytes, part: bytes, t2: bytes, a: int, b: int) -> bytes:
    return p.hkdf(shared + part, t2, b"mask+pairwise" + bytes([min(a, b), max(a, b)]))


def tag(part: bytes, t1: bytes, a: int, b: int) -> bytes:
    return p.tagged_hash("concordat/v1/pairwise-tag", t1 + m.u8(min(a, b)) + m.u8(max(a, b)) + part)


def seal_key(root: bytes, t1: bytes, dealer: int, holder: int) -> bytes:
    return p.hkdf(root, t1, LABEL + b"seal" + bytes([dealer, holder]))


def seal(root: bytes, part: bytes, t1: bytes, dealer: int, holder: int) -> bytes:
    sealed = p.seal(seal_key(root, t1, dealer, holder), t1 + bytes([dealer, holder]), part)
    return tag(part, t1, dealer, holder) + sealed


def open_seal(root: bytes, sealed: bytes, t1: bytes, dealer: int, holder: int) -> bytes | None:
    """The part, or None when the seal does not hold what its tag says."""
    part = p.unseal(seal_key(root, t1, dealer, holder), t1 + bytes([dealer, holder]), sealed[32:])
    return part if part is not None and tag(part, t1, dealer, holder) == sealed[:32] else None


def pairwise_json(form: str) -> dict:
    """Vectors of the parts."""

    def secret(what: str) -> bytes:
        return p.sha256(f"{form}, pairwise, {what}".encode())

    cases = []
    for i, j in ((1, 2), (7, 3), (5, 5), (99, 100)):
        a, b = secret(f"a {i} {j}"), secret(f"b {i} {j}")
        key, root, seed, t1, t2 = (secret(f"{what} {i} {j}") for what in ("key", "root", "seed", "t1", "t2"))
        shared = p.x25519(a, p.x25519_public(b))
        part = mask_part(key, t1, i, j)
        cases.append({
            "i": i, "j": j, "key": key.hex(), "root": root.hex(), "seed": seed.hex(), "t1": t1.hex(), "t2": t2.hex(),
            "secret_i": a.hex(), "public_j": p.x25519_public(b).hex(), "mask_secret": mask_secret(root).hex(),
            "own_key": own_key(root, seed).hex(), "share_part_i_to_j": share_part(key, t1, i, j).hex(),
            "mask_part": part.hex(), "tag": tag(part, t1, i, j).hex(),
            "share_key_i_to_j": share_key(shared, share_part(key, t1, i, j), t1, i, j).hex(),
            "pair_mask_key": mask_key(shared, part, t2, i, j).hex(), "seal_i_for_j": seal(root, part, t1, i, j).hex(),
        })  # fmt: skip
    return {"format": form, "derivations": cases}
