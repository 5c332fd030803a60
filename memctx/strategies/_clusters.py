"""Windows of utterances in coherent episodes: assigned as they come, put right by k-means from time to time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROUNDS = 8  # of k-means; it starts from the episodes there are


@dataclass(frozen=True, slots=True)
class Window:
    """Utterances that follow each other in a thread: their record ids and their text."""

    ids: tuple[int, ...]
    text: str


class Clusters:
    """Episodes of windows by cosine. `threshold`: the least likeness to an episode's centroid that joins it; `most`: episodes.

    After each `refit` new windows k-means runs over all of them, from the centroids there are; an episode that nothing is
    nearest to disappears. Vectors have length one.
    """

    def __init__(self, threshold: float, most: int, refit: int) -> None:
        self.threshold = threshold
        self.most = most
        self.refit = refit
        self.windows: list[Window] = []
        self.labels: list[int] = []
        self._vectors: list[Floats] = []
        self._sums: list[Floats] = []  # of the members' vectors; its direction is the centroid
        self._since = 0

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, windows: Sequence[Window], vectors: Iterable[Sequence[float] | Floats]) -> None:
        """Assign new windows, each with its vector."""
        for window, vector in zip(windows, vectors, strict=True):
            self._add(window, np.asarray(vector, np.float32))
        if self._since >= self.refit:
            self._refit()

    def _add(self, window: Window, vector: Floats) -> None:
        likeness = self.likeness(vector)
        best = int(likeness.argmax()) if len(likeness) else -1
        if best < 0 or (likeness[best] < self.threshold and len(self) < self.most):
            best = len(self)
            self._sums.append(np.zeros_like(vector))
        self._sums[best] = self._sums[best] + vector
        self.windows.append(window)
        self.labels.append(best)
        self._vectors.append(vector)
        self._since += 1

    def likeness(self, vector: Floats) -> Floats:
        """Cosine of a vector with each centroid."""
        if not self._sums:
            return np.zeros(0, np.float32)
        found: Floats = np.dot(self._centroids(), vector)
        return found

    def _centroids(self) -> Floats:
        sums = np.stack(self._sums)
        lengths: Floats = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.maximum(lengths, 1e-9), np.float32)

    def _refit(self) -> None:
        """Spherical k-means over all windows."""
        points, centroids = np.stack(self._vectors), self._centroids()
        labels = np.asarray(self.labels)
        for _ in range(ROUNDS):
            nearest = (points @ centroids.T).argmax(axis=1)
            used, fresh = np.unique(nearest, return_inverse=True)
            sums = np.zeros((len(used), points.shape[1]), np.float32)
            np.add.at(sums, fresh, points)
            self._sums = list(sums)
            centroids, same = self._centroids(), np.array_equal(fresh, labels)
            labels = fresh
            if same:
                break
        self.labels = [int(label) for label in labels]
        self._since = 0

    def route(self, vector: Sequence[float] | Floats, count: int) -> list[int]:
        """The `count` episodes nearest to a vector, best first."""
        order = np.argsort(-self.likeness(np.asarray(vector, np.float32)), kind="stable")
        return [int(label) for label in order[:count]]

    def members(self, labels: Sequence[int]) -> Iterator[int]:
        """The record ids in these episodes."""
        wanted = set(labels)
        return (
            each
            for window, label in zip(self.windows, self.labels, strict=True)
            if label in wanted
            for each in window.ids
        )

    def medoids(self, label: int, count: int) -> list[Window]:
        """The windows nearest to an episode's centroid, in the order they came."""
        places = [place for place, mine in enumerate(self.labels) if mine == label]
        centroid = self._centroids()[label]
        nearest = sorted(places, key=lambda place: -float(self._vectors[place] @ centroid))[:count]
        return [self.windows[place] for place in sorted(nearest)]
