"""Closed forms and single values in mpmath, at any precision: what the arbiter itself is held against."""
import mpmath as mp


def _phi(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gaussian_delta(mu, eps):
    """N(mu, 1) against N(0, 1)."""
    return _phi(mu / 2 - eps / mu) - mp.e**eps * _phi(-mu / 2 - eps / mu)


def one_step_delta(q, sigma, pair, eps):
    """One step: the loss is monotone in x, so delta is a difference of tails at the x with loss eps."""
    q, s, eps = mp.mpf(q), mp.mpf(sigma), mp.mpf(eps)
    tail = lambda m, x: _phi((m - x) / s)  # P(N(m, s^2) > x)
    if pair == "remove":
        a = mp.log((mp.expm1(eps) + q) / q)
        x = s * s * a + mp.mpf(1) / 2
        return (1 - q) * tail(0, x) + q * tail(1, x) - mp.e**eps * tail(0, x)
    if pair == "add":
        r = (mp.expm1(-eps) + q) / q
        if r <= 0:
            return mp.mpf(0)
        x = s * s * mp.log(r) + mp.mpf(1) / 2  # losses above eps lie below x
        below = lambda m: 1 - tail(m, x)
        return below(0) - mp.e**eps * ((1 - q) * below(0) + q * below(1))
    f = lambda x: mp.log((1 - q + q * mp.e**((2 * x - 1) / (2 * s * s)))
                         / (1 - q + q * mp.e**((-2 * x - 1) / (2 * s * s)))) - eps
    low, high = mp.mpf(0), mp.mpf(1)
    while f(high) < 0:
        high *= 2
    for _ in range(mp.mp.prec + 20):
        mid = (low + high) / 2
        if f(mid) < 0:
            low = mid
        else:
            high = mid
    x = high
    mix = lambda m: (1 - q) * tail(0, x) + q * tail(m, x)
    return mix(1) - mp.e**eps * mix(-1)


def solve(delta_of, delta, low=0, high=1):
    """eps with delta_of(eps) = delta, by halving."""
    low, high, delta = mp.mpf(low), mp.mpf(high), mp.mpf(delta)
    if delta_of(low) <= delta:
        return mp.mpf(0)
    while delta_of(high) > delta:
        high *= 2
    for _ in range(90):
        mid = (low + high) / 2
        if delta_of(mid) > delta:
            low = mid
        else:
            high = mid
    return high


def composed_delta(steps, pair, eps, theta, u_step, u_end, x_step_share=14, digits=30):
    """The same inversion as arbiter.py, written out again in mpmath. Slow: minutes."""
    mp.mp.dps = digits
    theta, eps = mp.mpf(theta), mp.mpf(eps)
    tables = []
    for q, sigma, times in steps:
        q, s = mp.mpf(repr(q)), mp.mpf(repr(sigma))
        v = s * s
        low, high = -13 * s - 1, 13 * s + 2 + theta
        h = min(s / 8, mp.pi * v / x_step_share)
        nodes = []
        x = low
        while x < high:
            up = mp.log1p(q * mp.expm1((2 * x - 1) / (2 * v)))
            down = mp.log1p(q * mp.expm1((-2 * x - 1) / (2 * v)))
            base = -x * x / (2 * v)
            logp, loss = {"remove": (base + up, up), "add": (base, -up), "replace": (base + up, up - down)}[pair]
            w = logp + theta * loss
            nodes.append((w, loss))
            x += h
        top = max(w for w, _ in nodes)
        nodes = [(mp.exp(w - top), l) for w, l in nodes if w > top - 75]
        tables.append((times, nodes, top + mp.log(h / (s * mp.sqrt(2 * mp.pi)))))

    def log_m(u):
        out = mp.mpc(0)
        for times, nodes, scale in tables:
            out += times * (mp.log(mp.fsum(w * mp.expj(u * l) for w, l in nodes)) + scale)
        return out
    total, k = mp.mpf(0), 0
    while k * u_step < u_end:
        u = mp.mpf(k) * mp.mpf(u_step)
        z = theta + 1j * u
        term = (mp.exp(log_m(u) - z * eps) / (z * (z + 1))).real
        total += term / 2 if k == 0 else term
        k += 1
    return total * mp.mpf(u_step) / mp.pi
