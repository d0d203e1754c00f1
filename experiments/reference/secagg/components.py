"""Vectors of the parts: hashes, signatures, keys, shares, commitments, ciphertexts, masks."""

from . import messages as m
from . import primitives as p
from . import shamir
from .attempt import FORMAT, words_hex
from .worker import pair_mask_key, self_mask_key


def secret(what: str) -> bytes:
    return p.sha256(f"{FORMAT}, components, {what}".encode())


def tagged_hashes() -> list:
    cases = [("", b""), ("concordat/v1/t0", b""), ("concordat/v1/t1", bytes(range(100)))]
    return [{"tag": t, "body": b.hex(), "digest": p.tagged_hash(t, b).hex()} for t, b in cases]


def signatures() -> list:
    out = []
    for domain, body in (("concordat/v1/advert", b""), ("concordat/v1/unmask", bytes(range(200)))):
        key = p.Identity(secret(f"identity {domain}"))
        out.append({
            "seed": key.seed.hex(), "key_hash": key.key_hash.hex(), "domain": domain, "body": body.hex(),
            "signature": key.sign(domain, body).hex(),
        })  # fmt: skip
    return out


def derived_keys() -> list:
    out = []
    for i, j in ((1, 2), (7, 3), (5, 5), (99, 100)):
        a, b = secret(f"a {i} {j}"), secret(f"b {i} {j}")
        if i == j:
            b = a  # a site's channel to itself
        salt, seed = secret(f"salt {i} {j}"), secret(f"seed {i} {j}")
        shared = p.x25519(a, p.x25519_public(b))
        out.append({
            "i": i, "j": j, "secret_i": a.hex(), "public_i": p.x25519_public(a).hex(), "secret_j": b.hex(),
            "public_j": p.x25519_public(b).hex(), "salt": salt.hex(), "agreed": shared.hex(),
            "share_key_i_to_j": p.hkdf(shared, salt, b"share" + bytes([i, j])).hex(),
            "share_key_j_to_i": p.hkdf(shared, salt, b"share" + bytes([j, i])).hex(),
            "pair_mask_key": pair_mask_key(shared, salt, i, j).hex(),
            "seed_i": seed.hex(), "self_mask_key_i": self_mask_key(seed, salt, i).hex(),
        })  # fmt: skip
    return out


def products() -> list:
    pairs = [(0, 0), (0, 7), (1, 255), (2, 128), (0x53, 0xCA), (0x57, 0x83), (255, 255), (100, 99)]
    return [{"a": a, "b": b, "product": shamir.multiply(a, b), "inverse_b": shamir.inverse(b)} for a, b in pairs]


def sharings() -> list:
    out = []
    plans = [(3, (1, 2, 3)), (4, (1, 2, 3, 4, 5)), (3, (2, 5, 77, 100)), (1, (9,))]
    for threshold, holders in plans:
        value = bytes(32) if threshold == 1 else secret(f"shared {threshold} {holders}")
        coefficients = [secret(f"coefficient {threshold} {holders} {k}") for k in range(1, threshold)]
        shares = {x: shamir.share(value, coefficients, x) for x in holders}
        last = dict(list(shares.items())[-threshold:])
        assert shamir.combine(last) == value
        out.append({
            "secret": value.hex(), "threshold": threshold, "coefficients": [c.hex() for c in coefficients],
            "shares": [{"x": x, "y": y.hex()} for x, y in shares.items()],
        })  # fmt: skip
    return out


def commitments() -> list:
    out = []
    for kind, dealer, holder in ((m.MASK_KEY, 1, 2), (m.SEED, 1, 2), (m.SEED, 2, 1), (m.MASK_KEY, 100, 100)):
        share, salt = secret(f"share {kind}"), secret(f"salt {kind}")
        digest = m.share_commitment(kind, dealer, holder, share, salt)
        out.append({"kind": kind, "dealer": dealer, "holder": holder, "share": share.hex(), "salt": salt.hex(),
                    "commitment": digest.hex()})  # fmt: skip
    return out


def ciphertexts() -> list:
    key, t1 = secret("share key"), secret("t1")
    parts = [secret(f"part {k}") for k in range(4)]
    cipher = p.seal(key, t1 + bytes([3, 8]), b"".join(parts))
    return [{
        "key": key.hex(), "t1": t1.hex(), "dealer": 3, "holder": 8, "mask_key_share": parts[0].hex(),
        "mask_key_salt": parts[1].hex(), "seed_share": parts[2].hex(), "seed_salt": parts[3].hex(),
        "ciphertext": cipher.hex(),
    }]  # fmt: skip


def masks() -> list:
    """Beginnings of a mask, parts that begin inside a block, and parts where the counter grows past 32 bits."""
    out = []
    for first, count in ((0, 13), (1, 6), (7, 9), (2**32 - 3, 8), (2**34 - 6, 12), (2**40 + 5, 5)):
        key = secret(f"mask {first}")
        out.append({"key": key.hex(), "first": first, "words": words_hex(p.mask_words(key, first, count))})
    return out


def components_json() -> dict:
    return {
        "format": FORMAT,
        "tagged_hashes": tagged_hashes(),
        "signatures": signatures(),
        "keys": derived_keys(),
        "gf256": products(),
        "shamir": sharings(),
        "commitments": commitments(),
        "share_ciphertexts": ciphertexts(),
        "masks": masks(),
    }
