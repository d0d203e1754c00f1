"""Shamir 1979 over GF(2^8) with x^8+x^4+x^3+x+1, each byte of a secret on its own polynomial."""


def multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def power(a: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = multiply(result, a)
    return result


def inverse(a: int) -> int:
    return power(a, 254)  # a^255 = 1 for every a but 0


def share(secret: bytes, coefficients: list[bytes], x: int) -> bytes:
    """secret + c1 x + c2 x^2 + ... for each byte; coefficients[k - 1] holds the 32 factors of x^k."""
    out = bytearray(secret)
    for k, coefficient in enumerate(coefficients, start=1):
        factor = power(x, k)
        for i, c in enumerate(coefficient):
            out[i] ^= multiply(c, factor)
    return bytes(out)


def combine(shares: dict[int, bytes]) -> bytes:
    """The value at 0 of the polynomials through `shares`, by Lagrange."""
    out = bytearray(32)
    for xi, yi in shares.items():
        basis = 1
        for xj in shares:
            if xj != xi:
                basis = multiply(basis, multiply(xj, inverse(xj ^ xi)))  # 0 - xj = xj in this field
        for i, y in enumerate(yi):
            out[i] ^= multiply(y, basis)
    return bytes(out)
