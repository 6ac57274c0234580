"""Planted faults: wrong labels and a shortcut, in any pool, always the same ones whatever subset is drawn of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tda.data.pools import Pool

PATCH_SHARE_OF_SIDE, PATCH_PLACE_SHARE = 5 / 32, 2 / 32
"""Side of the patch, and the row and column of its upper left pixel, as shares of the image's side."""
SHARE_OF_TEST = 0.5
"""Share of each class's test images that carry the patch."""
_COLOUR = (255, 0, 0)


@dataclass(frozen=True)
class ImagesWithPatch:
    """Images of which some get a patch when they are asked for: indexing by positions (k,) gives (k, h, w, c) uint8.

    Its upper left pixel lies 2 / 32 of the side from both edges, its side is 5 / 32 of the image's; red, in images with one
    channel white.
    """

    images: Any
    patched: np.ndarray

    def __len__(self) -> int:
        return len(self.patched)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        found = np.array(self.images[positions])
        side = min(found.shape[1:3])
        start, size = round(PATCH_PLACE_SHARE * side), max(1, round(PATCH_SHARE_OF_SIDE * side))
        rows = np.flatnonzero(self.patched[positions])
        colour = _COLOUR if found.shape[3] == 3 else max(_COLOUR)
        found[rows, start : start + size, start : start + size] = colour
        return found


def with_wrong_labels(pool: Pool, classes: Sequence[int], share: float) -> Pool:
    """The pool with a share of each class's labels changed to another of the classes, each as likely.

    What the labels were becomes true_labels, unless the pool knows the truth already. Other classes stay as they are.
    """
    labels, generator = pool.labels.copy(), np.random.default_rng([0, 0])
    order, shift = generator.random(len(labels)), generator.integers(1, len(classes), len(labels))
    for place, label in enumerate(classes):
        for position in _share_of_class(pool.labels, label, share, order):
            labels[position] = classes[(place + shift[position]) % len(classes)]
    return replace(pool, labels=labels, true_labels=pool.labels if pool.true_labels is None else pool.true_labels)


def with_patch(pool: Pool, classes: Sequence[int], names: Sequence[str], shares: Sequence[float]) -> Pool:
    """The pool of images with a patch on a share of each class's images, which the groups name: "<class name>, no patch".

    classes: labels, with their names and shares in the same order; images of other classes get no patch.
    """
    order = np.random.default_rng([0, 1]).random(len(pool.labels))
    patched = np.zeros(len(pool.labels), dtype=bool)
    for label, share in zip(classes, shares, strict=True):
        patched[_share_of_class(pool.labels, label, share, order)] = True
    name_of = dict(zip(classes, names, strict=True))
    groups = [
        f"{name_of.get(label, 'other classes')}, {'patch' if carries else 'no patch'}"
        for label, carries in zip(pool.labels.tolist(), patched.tolist(), strict=True)
    ]
    return replace(pool, examples=ImagesWithPatch(pool.examples, patched), groups=np.array(groups))


def _share_of_class(labels: np.ndarray, label: int, share: float, order: np.ndarray) -> np.ndarray:
    """Positions of the share of a class's examples that come first by `order`, ascending."""
    own = np.flatnonzero(labels == label)
    return np.sort(own[np.argsort(order[own])[: round(share * len(own))]])
