"""The primitives that the protocol names, by `cryptography`; tagged hashes and signatures; the mask stream."""

import hashlib
import struct

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(tag: str, data: bytes) -> bytes:
    """u32le(len(tag)) || tag || data: what is hashed or signed."""
    name = tag.encode()
    return struct.pack("<I", len(name)) + name + data


def tagged_hash(tag: str, data: bytes) -> bytes:
    """H(tag, x) of the page."""
    return sha256(tagged(tag, data))


class Identity:
    """An Ed25519 identity key from its seed (RFC 8032, section 5.1.5)."""

    def __init__(self, seed: bytes):
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_hash = sha256(self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, domain: str, body: bytes) -> bytes:
        return self._key.sign(tagged(domain, body))


def signature_holds(public: bytes, domain: str, body: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, tagged(domain, body))
    except InvalidSignature:
        return False
    return True


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def x25519(secret: bytes, peer: bytes) -> bytes:
    """ValueError when the peer's point is of low order (RFC 7748, section 6.1: all-zero result)."""
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(peer))


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def seal(key: bytes, aad: bytes, plain: bytes) -> bytes:
    """AES-256-GCM with nonce 0, tag at the end. Each key seals one message."""
    return AESGCM(key).encrypt(bytes(12), plain, aad)


def unseal(key: bytes, aad: bytes, cipher: bytes) -> bytes | None:
    try:
        return AESGCM(key).decrypt(bytes(12), cipher, aad)
    except InvalidTag:
        return None


def wire_bytes(words: np.ndarray, bits: int) -> bytes:
    """The low 32 or 24 bits of each word, little endian, without gaps."""
    return words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()


def mask_words(key: bytes, first: int, count: int) -> np.ndarray:
    """Words first .. first+count-1 of G(key): AES-256-CTR, a 128-bit big-endian counter that starts at 0."""
    block, skip = divmod(4 * first, 16)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()
    stream = encryptor.update(bytes(skip + 4 * count))[skip:]
    return np.frombuffer(stream, dtype="<u4")
