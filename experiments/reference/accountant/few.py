"""Two bounds on the epsilon of few Poisson-subsampled Gaussian steps, between which the exact one lies.

The arbiter's integrals need the characteristic function of the loss to fall, which that of a few steps does too slowly.
Here losses do lie on a grid, twice: each rounded down for a lower bound on delta(eps) = E_P[(1 - e^{eps - loss})_+],
which grows with the loss, and each rounded up for an upper one. T steps are off by T grid steps at most, so that
both ends say themselves how far apart they are. What leaves the range of losses is lost below and infinite above.
Masses come from closed forms; they are tilted before the Fourier transform, so that rounding stays far below delta.
"""
import math

import numpy as np

from . import arbiter

POINTS = 1 << 20
SHARE = 5e-4
MARGIN = 1e-9  # of the ends, for rounding: a hundred times and more of what it does

erfc = np.frompyfunc(math.erfc, 1, 1)


def above(x, mean, sigma):
    """The share of N(mean, sigma^2) above each x."""
    return erfc((x - mean) / (sigma * math.sqrt(2))).astype(float) / 2


class Loss:
    """One step's loss as an increasing function of x, whose distribution under P is a mixture (1-q) N(0) + q N(m)."""

    def __init__(self, q, sigma, pair):
        self.q, self.sigma, self.pair = q, sigma, pair
        self.m = 0.0 if pair == "add" else 1.0  # for add x is the negated sample: P is N(0) alone

    def at(self, x):
        def mix(t):
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.logaddexp(np.log1p(-self.q) if self.q < 1 else -np.inf, math.log(self.q) + t)
        half = 2 * self.sigma**2
        if self.pair == "remove":
            return mix((2 * x - 1) / half)
        if self.pair == "add":
            return -mix((-2 * x - 1) / half)
        return mix((2 * x - 1) / half) - mix((-2 * x - 1) / half)

    def ends(self, mass):
        """x below and above which P has at most `mass`."""
        reach = self.sigma * math.sqrt(-2 * math.log(mass))
        return -reach, self.m + reach

    def tail(self, x, sign):
        """Above x, or with sign -1 below -x."""
        return (1 - self.q) * above(x, 0, self.sigma) + self.q * above(x, sign * self.m, self.sigma)

    def masses(self, h, mass):
        """The first cell [i h, (i+1) h), P of it and of those that follow, of what lies above them, and below."""
        low, high = self.ends(mass)
        first, last = math.floor(float(self.at(np.array(low))) / h), math.ceil(float(self.at(np.array(high))) / h)
        x = self.inverse(np.arange(first + 1, last) * h, low, high)
        x = np.concatenate(([low], x, [high]))
        middle = int(np.searchsorted(x, self.m / 2))
        # Differences of the smaller tail keep their digits.
        below, over = self.tail(-x[:middle + 1], -1), self.tail(x[middle:], 1)
        p = np.concatenate((np.diff(below), -np.diff(over)))
        return first, np.maximum(p, 0), float(over[-1]), float(below[0])

    def inverse(self, loss, low, high):
        if self.pair != "replace":
            sign = 1 if self.pair == "remove" else -1
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.log((np.expm1(sign * loss) + self.q) / self.q)
            x = sign * (self.sigma**2 * t + 0.5)
            return np.clip(np.nan_to_num(x, nan=low if sign > 0 else high), low, high)
        a, b = np.full(loss.shape, low), np.full(loss.shape, high)
        for _ in range(60):
            middle = (a + b) / 2
            up = self.at(middle) >= loss
            a, b = np.where(up, a, middle), np.where(up, middle, b)
        return b


def bounds(steps, pair, delta):
    """(low, high) around the least eps >= 0 with delta(eps) <= delta, in one direction.

    steps: (q, sigma, how many), 0 < q <= 1, sigma > 0. The more of them, the further apart.
    """
    if arbiter.touched(steps) <= delta:
        return 0.0, 0.0
    count = sum(t for _, _, t in steps)
    mass = delta * 1e-12 / count
    losses = [(Loss(q, s, pair), t) for q, s, t in steps]
    length = sum(t * float(np.ptp(loss.at(np.array(loss.ends(mass))))) for loss, t in losses)
    h = length / (POINTS - 2 * count - 2)
    log_m = arbiter.coarse(steps, pair)
    theta = arbiter.least(lambda t: (log_m(t) - math.log1p(t) - t * math.log1p(1 / t) - math.log(delta)) / t)
    out = []
    for up in (0, 1):
        spectrum, shift, scale, infinite = 1.0, 0, 0.0, 0.0
        for loss, t in losses:
            first, p, over, under = loss.masses(h, mass)
            if up:
                p[0] += under
                infinite += t * over
            place = (first + up + np.arange(len(p))) * h
            top = float((theta * place)[p > 0].max())
            p = p * np.exp(theta * place - top)
            shift += t * (first + up)
            scale += t * (top + math.log(p.sum()))
            spectrum = spectrum * np.fft.rfft(p / p.sum(), POINTS)**t
        tilted = np.maximum(np.fft.irfft(spectrum, POINTS), 0)
        out.append(crossing((shift + np.arange(POINTS)) * h, tilted, theta, scale, delta - infinite))
    return out[0] * (1 - MARGIN), out[1] * (1 + MARGIN)


def crossing(place, tilted, theta, scale, delta):
    """eps where sum (1 - e^{eps - place}) mass is delta; mass = tilted e^{scale - theta place}."""
    keep = place > 0
    place = place[keep]
    with np.errstate(divide="ignore"):
        log_mass = np.log(tilted[keep]) + scale - theta * place
    mass = np.exp(np.minimum(log_mass, 0))
    sums = np.cumsum(mass[::-1])[::-1]                        # at and above a place
    light = np.cumsum((mass * np.exp(-place))[::-1])[::-1]
    if sums[0] - light[0] <= delta:
        return 0.0
    at_place = sums - np.exp(np.minimum(place, 700)) * light  # delta at eps = place
    i = int(np.argmax(at_place <= delta))                     # the first place at which it is small enough
    return math.log((sums[i] - delta) / light[i])


def epsilon(steps, pairs, delta):
    """(low, high) of the worse direction. ValueError: more than SHARE apart, these are too many steps."""
    both = [bounds(steps, pair, delta) for pair in pairs]
    low, high = max(low for low, _ in both), max(high for _, high in both)
    if not high - low <= SHARE * high:
        raise ValueError(f"the bounds {low} and {high} on the epsilon of {steps} are too far apart")
    return low, high
