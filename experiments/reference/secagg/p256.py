"""Vectors of the profile with P-256: agreement by x-coordinates, the keys that follow, a signature of r and s."""

from cryptography.hazmat.primitives.asymmetric import ec

from . import primitives as p
from .attempt import FORMAT
from .worker import pair_mask_key

CURVE = ec.SECP256R1()
# RFC 6979, A.2.5: a published key and its signature of "sample" with SHA-256.
PUBLISHED_SCALAR = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
PUBLISHED_SIGNATURE = (
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)


def secret(what: str) -> bytes:
    return p.sha256(f"{FORMAT}, p256, {what}".encode())


def private(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(scalar, "big"), CURVE)


def coordinate(scalar: bytes) -> bytes:
    return private(scalar).public_key().public_numbers().x.to_bytes(32, "big")


def agree(scalar: bytes, peer: bytes) -> bytes:
    """By the point with an even y; the one with an odd y gives the same."""
    points = [ec.EllipticCurvePublicKey.from_encoded_point(CURVE, bytes([sign]) + peer) for sign in (2, 3)]
    shared = [private(scalar).exchange(ec.ECDH(), point) for point in points]
    assert shared[0] == shared[1]
    return shared[0]


def agreements() -> list:
    out = []
    for i, j in ((1, 2), (7, 3), (5, 5), (99, 100)):
        a, b = secret(f"a {i} {j}"), secret(f"b {i} {j}")
        if i == j:
            b = a  # a site's channel to itself
        salt, shared = secret(f"salt {i} {j}"), agree(a, coordinate(b))
        assert shared == agree(b, coordinate(a))
        out.append({
            "i": i, "j": j, "secret_i": a.hex(), "public_i": coordinate(a).hex(), "secret_j": b.hex(),
            "public_j": coordinate(b).hex(), "odd_y_j": bool(private(b).public_key().public_numbers().y % 2),
            "salt": salt.hex(), "agreed": shared.hex(),
            "share_key_i_to_j": p.hkdf(shared, salt, b"share" + bytes([i, j])).hex(),
            "pair_mask_key": pair_mask_key(shared, salt, i, j).hex(),
        })  # fmt: skip
    return out


def no_points() -> list:
    """32 bytes that are the coordinate of no point."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    squares = [x for x in range(16) if pow(x**3 - 3 * x + b, (prime - 1) // 2, prime) == 1]
    none = [x for x in range(16) if x not in squares]
    # The last are not reduced: coordinates of points, plus the prime.
    return [x.to_bytes(32, "big").hex() for x in none + [x + prime for x in squares]]


def p256_json() -> dict:
    return {
        "format": FORMAT, "keys": agreements(), "no_points": no_points(),
        "published": {"scalar": PUBLISHED_SCALAR, "public": coordinate(bytes.fromhex(PUBLISHED_SCALAR)).hex(),
                      "message": "sample", "signature": PUBLISHED_SIGNATURE},
    }  # fmt: skip
