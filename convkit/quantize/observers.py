"""Calibration: what range of an activation to quantize, from the values it takes on sample data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from convkit.diagnostics import did_you_mean, error
from convkit.quantize.grid import Range

_BINS = 8192
_LEVELS = 256
_FULL_BIN = 8  # values per bin, on average, from which a histogram is a distribution


class Observer(Protocol):
    """Sees a tensor once per sample, and gives the range to quantize."""

    def see(self, values: np.ndarray) -> None:
        """Take note of a sample's values (finite float32, at least one)."""

    def range(self) -> Range:
        """The range; low <= high."""


class MinMax:
    """The least and the greatest value of all samples."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def see(self, values: np.ndarray) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def range(self) -> Range:
        return self.low, self.high


class MovingAverage:
    """Exponential moving average of each sample's extremes."""

    def __init__(self, momentum: float = 0.9) -> None:
        self._momentum = momentum
        self._extremes: np.ndarray | None = None

    def see(self, values: np.ndarray) -> None:
        new = np.asarray([values.min(), values.max()], np.float64)
        old = new if self._extremes is None else self._extremes
        self._extremes = self._momentum * old + (1 - self._momentum) * new

    def range(self) -> Range:
        assert self._extremes is not None
        return float(self._extremes[0]), float(self._extremes[1])


class _Histogram(MinMax):
    """Counts in equal bins over [-limit, limit]; the limit doubles when a value lies beyond it."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = 0.0
        self._counts = np.zeros(_BINS, np.int64)

    def see(self, values: np.ndarray) -> None:
        super().see(values)
        largest = max(-self.low, self.high)
        if self._limit == 0.0:
            self._counts[_BINS // 2] += values.size if largest == 0.0 else 0
            self._limit = largest
            if largest == 0.0:
                return
        while self._limit < largest:
            middle = self._counts.reshape(-1, 2).sum(1)
            self._counts[:] = 0
            self._counts[_BINS // 4 : -_BINS // 4] = middle
            self._limit *= 2
        self._counts += np.histogram(values, _BINS, (-self._limit, self._limit))[0]

    def filled(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Centers and counts of the bins from the first filled to the last, and the width of a bin."""
        width = 2 * self._limit / _BINS
        first, *_, last = (where := np.flatnonzero(self._counts))[0], where[-1]
        centers = -self._limit + width * (np.arange(first, last + 1) + 0.5)
        return np.clip(centers, self.low, self.high), self._counts[first : last + 1], width

    def range(self) -> Range:
        if self._limit == 0.0 or self.low == self.high:
            return self.low, self.high
        low, high = self.choose(*self.filled())
        return max(low, self.low), min(high, self.high)

    def choose(self, centers: np.ndarray, counts: np.ndarray, width: float) -> Range:
        """The range to quantize."""
        raise NotImplementedError


class Percentile(_Histogram):
    """The range that holds `percent` of the values, the rest cut off at both ends alike."""

    def __init__(self, percent: float = 99.999) -> None:
        super().__init__()
        self._percent = percent

    def choose(self, centers: np.ndarray, counts: np.ndarray, width: float) -> Range:
        cumulated = np.cumsum(counts) / counts.sum()
        tail = (1 - self._percent / 100) / 2
        low = int(np.searchsorted(cumulated, tail, "right"))
        high = int(np.searchsorted(cumulated, 1 - tail, "left"))
        high = min(high, counts.size - 1)
        return float(centers[low]) - width / 2, float(centers[high]) + width / 2


class _Shrinking(_Histogram):
    """The best of ranges that shrink from the extremes, one end after the other, by a loss."""

    def choose(self, centers: np.ndarray, counts: np.ndarray, width: float) -> Range:
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        for _ in range(2):
            high = self._best([(low, high * f) for f in _FACTORS], centers, counts)[1]
            low = self._best([(low * f, high) for f in _FACTORS], centers, counts)[0]
        return low, high

    def _best(self, candidates: list[Range], centers: np.ndarray, counts: np.ndarray) -> Range:
        usable = [c for c in dict.fromkeys(candidates) if c[1] > c[0]]
        return min(usable, key=lambda c: self.loss(c, centers, counts))

    def loss(self, candidate: Range, centers: np.ndarray, counts: np.ndarray) -> float:
        """What is lost by quantizing `candidate` to 256 levels."""
        raise NotImplementedError


_FACTORS = np.linspace(1.0, 0.3, 36).tolist()


def _levels(candidate: Range, centers: np.ndarray) -> tuple[np.ndarray, float]:
    """The level of each bin, and the step."""
    step = (candidate[1] - candidate[0]) / (_LEVELS - 1)
    level = np.rint((np.clip(centers, *candidate) - candidate[0]) / step).astype(np.int64)
    return level, step


class LeastSquares(_Shrinking):
    """The range of the least mean square error of 256 levels."""

    def loss(self, candidate: Range, centers: np.ndarray, counts: np.ndarray) -> float:
        level, step = _levels(candidate, centers)
        off = centers - (candidate[0] + level * step)
        return float(np.dot(counts, off * off))


class Entropy(_Shrinking):
    """The range that loses the least information: Kullback-Leibler divergence of the distribution from
    the one where each of 256 levels is spread evenly over its filled bins, clipped values at the edges.

    Where there are too few values to know the distribution within a level, the whole range is taken.
    """

    def choose(self, centers: np.ndarray, counts: np.ndarray, width: float) -> Range:
        while counts.sum() < _FULL_BIN * counts.size:
            odd = counts.size % 2
            centers, counts = np.pad(centers, (0, odd), "edge"), np.pad(counts, (0, odd))
            centers, counts = centers.reshape(-1, 2).mean(1), counts.reshape(-1, 2).sum(1)
        if counts.size < 4 * _LEVELS:
            return self.low, self.high
        return super().choose(centers, counts, width)

    def loss(self, candidate: Range, centers: np.ndarray, counts: np.ndarray) -> float:
        level, _ = _levels(candidate, centers)
        inside = (centers >= candidate[0]) & (centers <= candidate[1])
        if not inside.any():
            return float(np.inf)
        clipped = np.where(inside, counts, 0).astype(np.float64)
        where = np.flatnonzero(inside)
        p = clipped.copy()
        p[where[0]] += counts[: where[0]].sum()
        p[where[-1]] += counts[where[-1] + 1 :].sum()
        filled = clipped > 0
        mass = np.bincount(level, clipped, _LEVELS)
        share = np.bincount(level[filled], minlength=_LEVELS)
        q = np.where(filled, mass[level] / np.maximum(share[level], 1), 0.0)
        total, kept = p.sum(), q.sum()
        if kept == 0:
            return float(np.inf)
        p, q = p / total, np.maximum(q / kept, 1e-12)
        some = p > 0
        return float(np.sum(p[some] * np.log(p[some] / q[some])))


METHODS: dict[str, Callable[[], Observer]] = {
    "min-max": MinMax,
    "moving-average": MovingAverage,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": LeastSquares,
}


def observer_factory(method: str) -> Callable[[], Observer]:
    """The observer of a method's name; `percentile:99.9` sets the percentage.

    Raises ConvkitError "unknown-calibration-method".
    """
    name, colon, parameter = method.partition(":")
    try:
        if colon and name == "percentile" and 50 < (percent := float(parameter)) <= 100:
            return lambda: Percentile(percent)
    except ValueError:
        pass
    if name not in METHODS or colon:
        raise error(
            "unknown-calibration-method",
            f"there is no calibration method {method!r}",
            help=did_you_mean(name, METHODS) or f"the methods are {', '.join(METHODS)}",
        )
    return METHODS[name]
