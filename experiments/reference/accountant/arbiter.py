"""Privacy of composed Poisson-subsampled Gaussians to twelve digits and more, by no grid of losses at all.

With L the loss of the composition under P and M(s) = E_P[e^{sL}] = prod_i M_i(s)^{T_i}, the identity
int_eps^inf (1 - e^{eps-l}) e^{-sl} dl = e^{-s eps} / (s (s+1)) gives, for any theta > 0,

    delta(eps) = 1/(2 pi) int M(s) e^{-s eps} / (s (s+1)) du,        s = theta + i u.

Both integrals, the one in x inside M_i and the one in u, are trapezoid sums of analytic functions, whose error falls
faster than any power of the step. theta is put at the saddle, so that the sum has no cancellation and delta has the
relative accuracy of the sums, however small it is. numpy's long double: 64 bits, 5e-20.

`epsilon` and `delta` compute each value three times, with other steps, ends and tilts, and return the largest
relative difference as the error. `arbiter_mp.py` repeats single values in mpmath with 30 digits and more.
"""
import math

import numpy as np

L = np.longdouble
C = np.clongdouble
PI = L("3.14159265358979323846264338327950288")


class Step:
    """One step's loss under P as a function of a real x: 'remove', 'add' or 'replace'."""

    def __init__(self, q, sigma, pair):
        self.q, self.sigma, self.pair = L(q), L(sigma), pair

    def _mix(self, t):
        # ln(1 - q + q e^t)
        if self.q == 1:
            return t
        with np.errstate(over="ignore"):
            return np.where(t > 40, t + np.log(self.q + (1 - self.q) * np.exp(-np.maximum(t, 0))),
                            np.log1p(self.q * np.expm1(np.minimum(t, 41))))

    def at(self, x):
        """ln of P's density at x, and the loss there."""
        v = self.sigma * self.sigma
        base = -x * x / (2 * v) - np.log(self.sigma * np.sqrt(2 * PI))
        up, down = self._mix((2 * x - 1) / (2 * v)), self._mix((-2 * x - 1) / (2 * v))
        if self.pair == "remove":
            return base + up, up
        if self.pair == "add":
            return base, -up
        return base + up, up - down

    def nodes(self, theta, u_max, fine):
        """Losses and normalised tilted weights, and ln M(theta)."""
        s = float(self.sigma)
        low, high = -40 * s - 2 - (theta if self.pair != "remove" else 0), 40 * s + 2 + theta
        if self.pair == "replace":
            low = -40 * s - 2
        rough = np.linspace(low, high, 20001).astype(L)
        logp, loss = self.at(rough)
        w = logp + theta * loss
        keep = np.flatnonzero(w > w.max() - 62)
        low, high = rough[max(keep[0] - 1, 0)], rough[min(keep[-1] + 1, len(rough) - 1)]
        slope = np.abs(np.diff(loss) / np.diff(rough))[max(keep[0] - 1, 0):keep[-1] + 1].max()
        step = min(s / 8, math.pi * s * s / 14, 1.5 / max(float(slope) * u_max, 1e-300)) / fine
        x = np.linspace(low, high, max(int((high - low) / step), 200) + 1, dtype=L)
        logp, loss = self.at(x)
        w = logp + L(theta) * loss
        top = w.max()
        e = np.exp(w - top)
        total = e.sum()
        return loss, e / total, float(0) + top + np.log(total * (x[1] - x[0]))


def coarse(steps, pair):
    """theta -> ln M(theta), roughly, for placing the tilt."""
    tables = []
    for q, sigma, times in steps:
        st = Step(q, sigma, pair)
        s = float(sigma)
        x = np.arange(-38 * s - 1, 38 * s + 2, min(s / 4, s * s / 3)).astype(L)
        logp, loss = st.at(x)
        tables.append((times, logp + np.log(x[1] - x[0]), loss))

    def log_m(theta):
        out = 0.0
        for times, logp, loss in tables:
            w = logp + theta * loss
            top = w.max()
            out += times * float(top + np.log(np.exp(w - top).sum()))
        return out
    return log_m


def least(f, low=-9.0, high=12.0):
    xs = np.arange(low, high, 0.25)
    values = [f(math.exp(x)) for x in xs]
    i = int(np.argmin(values))
    a, b = xs[max(i - 1, 0)], xs[min(i + 1, len(xs) - 1)]
    g = (math.sqrt(5) - 1) / 2
    for _ in range(30):
        c, d = b - g * (b - a), a + g * (b - a)
        if f(math.exp(c)) < f(math.exp(d)):
            b = d
        else:
            a = c
    return math.exp((a + b) / 2)


class Inversion:
    """The integrand on its line, kept, so that many eps cost little."""

    def __init__(self, steps, pair, theta, log_delta, fine=1.0):
        self.theta = L(theta)
        log_m = coarse(steps, pair)
        d = max(1e-5, theta * 1e-3)
        mean = (log_m(theta + d) - log_m(theta - d)) / (2 * d)
        var = max((log_m(theta + d) - 2 * log_m(theta) + log_m(theta - d)) / (d * d), 1e-30)
        # Period of the trapezoid rule in the loss: its images, e^{theta y} delta(y) a period further up and down, are
        # e^-45 of the value and less. Above by Chernoff with a further tilt s, below because delta <= 1.
        high = min((log_m(theta + s) - log_delta + 45) / s for s in np.geomspace(1e-3, 100, 80) / math.sqrt(var))
        period = max((45 - log_delta) / theta, high - mean, 12 * math.sqrt(var)) + 10 * math.sqrt(var)
        du = 2 * math.pi / period / fine
        u_max, count = self._reach(steps, pair, theta, var, du)
        u_max *= fine
        count = int(u_max / du) + 1
        self.u = np.arange(count).astype(L) * L(du)
        self.du = L(du)
        self.log_scale = L(0)
        self.log_phi = np.zeros(count, dtype=C)
        for q, sigma, times in steps:
            loss, p, log_moment = Step(q, sigma, pair).nodes(theta, u_max, fine)
            self.log_scale += L(times) * log_moment
            with np.errstate(invalid="ignore"):  # its logarithm times a real number
                self.log_phi += L(times) * self._log_phi(loss, p, du, count)

    @staticmethod
    def _reach(steps, pair, theta, var, du):
        """u from which on the integrand stays below e^-50 of its start."""
        tables = [(times, *Step(q, s, pair).nodes(theta, 1.0, 2.0)[:2]) for q, s, times in steps]
        u = 1 / math.sqrt(var)
        while u < 2e6:
            ok = True
            for f in (1.0, 1.13, 1.31, 1.57, 1.83):
                size = -math.log((1 + (u * f / theta) ** 2)) if theta else 0.0
                for times, loss, p in tables:
                    a = abs((p * np.exp(1j * (L(u * f) * loss))).sum())
                    size += times * math.log(max(float(a), 1e-30))
                ok &= size < -50
            if ok:
                return u, 0
            u *= 1.25
        raise ValueError("the integrand does not fall: take the closed form of one step")

    @staticmethod
    def _log_phi(loss, p, du, count):
        """ln sum p e^{iul}, by sum p (e^{iul} - 1): a million steps multiply its rounding, which is then in proportion
        to what a step does."""
        def turn(angle):
            return -2 * np.sin(angle / 2)**2 + 1j * np.sin(angle)  # e^{i angle} - 1
        z = np.zeros(count, dtype=C)
        one = turn(L(du) * loss)
        for start in range(0, count, 64):
            d = turn(L(du) * L(start) * loss)
            for k in range(start, min(start + 64, count)):
                z[k] = (p * d).sum()
                d = d + one + d * one
        z[0] = 0
        with np.errstate(divide="ignore"):  # a characteristic function below 2^-64 is 0 here
            return np.log1p(2 * z.real + np.abs(z)**2) / 2 + 1j * np.arctan2(z.imag, 1 + z.real)

    def log_delta(self, eps):
        s = self.theta + 1j * self.u
        f = np.exp(self.log_phi - 1j * self.u * L(eps)) / (s * (s + 1))
        total = (2 * f.real.sum() - f.real[0]) * self.du / (2 * PI)
        if not total > 0:
            raise ValueError("no positive delta: tilt or ends are wrong")
        return self.log_scale - self.theta * L(eps) + np.log(total)

    def epsilon(self, delta, high):
        """eps with that delta, at most `high`: halving, then the secant."""
        want = np.log(L(delta))

        def excess(eps):
            try:
                return self.log_delta(eps) - want
            except ValueError:  # so far out that delta is below the rounding here
                return -np.inf
        low, high = L(0), L(high)
        for _ in range(12):
            mid = (low + high) / 2
            if excess(mid) > 0:
                low = mid
            else:
                high = mid
        a, b = low, high
        fa, fb = excess(a), excess(b)
        while not np.isfinite(fb) or abs(fb) > 3:
            mid = (low + b) / 2
            if excess(mid) > 0:
                low, a, fa = mid, mid, excess(mid)
            else:
                b, fb = mid, excess(mid)
        for _ in range(60):
            c = b - fb * (b - a) / (fb - fa)
            a, fa = b, fb
            b, fb = c, excess(c)
            if abs(b - a) < 1e-17 * abs(b) or fb == 0 or fb == fa:
                break
        return b


VARIANTS = ((1.0, 0.6), (1.15, 0.5), (1.3, 0.42))


def of_pair(steps, pair, delta=None, epsilon=None):
    """(value, relative error seen) of the quantity that was not given, in one direction."""
    log_m = coarse(steps, pair)
    if delta is not None:
        if touched(steps) <= delta:
            return 0.0, 0.0
        want = math.log(delta)
        bound = lambda t: (log_m(t) - math.log1p(t) - t * math.log1p(1 / t) - want) / t
        theta = least(bound)
        high = bound(theta) * 1.01
        # The moments' best tilt shows where eps is; the saddle is the tilt for that eps.
        rough = float(Inversion(steps, pair, theta * 0.5, want, 0.8).epsilon(delta, high))
        saddle = min(theta, least(lambda t: log_m(t) - t * rough))
        values = [Inversion(steps, pair, saddle * factor, want, fine).epsilon(delta, high)
                  for fine, factor in VARIANTS]
    else:
        theta = least(lambda t: log_m(t) - t * epsilon)
        rough = log_m(theta) - theta * epsilon - 8
        values = [np.exp(Inversion(steps, pair, theta * factor, rough, fine).log_delta(epsilon))
                  for fine, factor in VARIANTS]
    spread = np.max(np.abs(np.array(values) / values[0] - 1))  # not max(): that loses what is no number
    return float(values[0]), float(spread)


def touched(steps):
    """The chance of being in any batch: delta is no more, whatever eps."""
    return -math.expm1(sum(t * math.log1p(-q) if q < 1 else -math.inf for q, _, t in steps))
