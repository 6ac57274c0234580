"""The regression of regression.py where the kernel of all training examples does not fit in memory: a Cholesky factor on disk.

The lower triangle of R K R + ridge, for a kernel K (n, n) and a diagonal R, lies in a file of n^2 / 2 numbers in float64, in
panels of columns that are contiguous. A panel is factored once those to its left have been subtracted from it (the left-looking
form; Golub and Van Loan, Matrix Computations, 4.2.9), so that two panels at a time are in memory. The result is that of the
factorisation in memory, but for rounding: n^3 / 3 operations either way, and n^3 / (6 b) numbers read with panels of b.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import make_folder
from tda.system.memory import gibibytes, release

Rows = Callable[[slice], Tensor]
"""Gives rows (b, n) of the kernel for a slice of positions."""

_FEWEST_COLUMNS = 16


def panel_width(count: int, memory_budget: int, rows_of_example: int = 1) -> int:
    """Columns of a panel, of which four (count, b) float64 are held: of whole examples, each of which has so many rows.

    Raises UserError where a budget of bytes has no room for 16, or for one example.
    """
    width = memory_budget // (32 * count) // rows_of_example * rows_of_example
    fewest = min(max(_FEWEST_COLUMNS, rows_of_example), count)
    if width < fewest:
        least = -(-fewest // rows_of_example) * rows_of_example * 32 * count
        raise UserError(
            f"a memory budget of {memory_budget / 2**30:.3g} GiB is too small for the kernel of {count:,} gradients; "
            f"give {gibibytes(least)} or more, or take a method without a kernel (trak_projected, ekfac)"
        )
    return min(width, count)


class KernelOnDisk:
    """A factored kernel; its file has no name, so that it is gone when the process is, however that ends."""

    def __init__(self, rows: Rows, count: int, ridge: float, folder: Path, width: int, roots: Tensor | None = None) -> None:
        """Factor R K R + ridge.

        rows: of K, whose two triangles are averaged, a panel's at a time, each once; folder: of the file; width: of panels;
        roots: the diagonal of R (n,), ones without it. Raises UserError if the matrix cannot be inverted, or only thanks to
        rounding.
        """
        self.count, self.width, self.ridge = count, width, ridge
        self.rows, self.roots = rows, torch.ones(count, dtype=torch.float64) if roots is None else roots.double().cpu()
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            self._panels = self._empty_panels(file)
        for panel in range(len(self._starts)):
            self._add_rows(panel)
        pivots = torch.cat([self._factor(panel) for panel in range(len(self._starts))])
        if not pivots.min() > count * torch.finfo(torch.float64).eps * pivots.max():
            raise _singular(ridge)

    def solve(self, right_sides: Tensor) -> tuple[Tensor, float]:
        """(R K R + ridge)^-1 times right_sides (n, m) float64, and the largest relative residual, which reads K once more."""
        solved = right_sides.clone()
        for panel, start in enumerate(self._starts):
            triangle, below = self._parts(panel)
            stop = start + len(triangle)
            solved[start:stop] = torch.linalg.solve_triangular(triangle, solved[start:stop], upper=False)
            solved[stop:] -= below @ solved[start:stop]
        for panel, start in reversed(list(enumerate(self._starts))):
            triangle, below = self._parts(panel)
            stop = start + len(triangle)
            solved[start:stop] = torch.linalg.solve_triangular(
                triangle.T, solved[start:stop] - below.T @ solved[stop:], upper=True
            )
        return solved, self._residual(solved, right_sides)

    @property
    def _starts(self) -> range:
        return range(0, self.count, self.width)

    def _slice(self, panel: int) -> slice:
        start = self._starts[panel]
        return slice(start, min(start + self.width, self.count))

    def _empty_panels(self, file: BinaryIO) -> list[np.memmap]:
        panels, offset = [], 0
        shapes = [(self.count - start, min(self.width, self.count - start)) for start in self._starts]
        file.truncate(8 * sum(map(math.prod, shapes)))
        for shape in shapes:
            panels.append(np.memmap(file, np.float64, "r+", offset, shape))
            offset += 8 * math.prod(shape)
        return panels

    def _add_rows(self, panel: int) -> None:
        """Add a panel's rows of the kernel to the lower triangle, half of each entry and half of its mirror image."""
        own = self._slice(panel)
        half = self.rows(own).double().cpu() * self.roots[own, None] * self.roots / 2
        for number in range(panel + 1):
            columns, target = self._slice(number), self._panels[number]
            target[own.start - columns.start : own.stop - columns.start] += half[:, columns].numpy()
            release(target)
        self._panels[panel][:] += half[:, own.start :].T.numpy()
        release(self._panels[panel])

    def _factor(self, panel: int) -> Tensor:
        """Turn a panel into that of the factor; returns its pivots, squared."""
        own, held = self._slice(panel), torch.from_numpy(np.array(self._panels[panel]))
        size = own.stop - own.start
        held[:size].diagonal().add_(self.ridge)
        for number in range(panel):
            left = torch.from_numpy(np.array(self._panels[number][own.start - self._slice(number).start :]))
            release(self._panels[number])
            held.addmm_(left, left[:size].T, alpha=-1)
        triangle, failed = torch.linalg.cholesky_ex(held[:size])
        if failed:
            raise _singular(self.ridge)
        self._panels[panel][:size] = triangle.numpy()
        self._panels[panel][size:] = torch.linalg.solve_triangular(triangle.T, held[size:], upper=True, left=False).numpy()
        release(self._panels[panel])
        return triangle.diagonal().square()

    def _parts(self, panel: int) -> tuple[Tensor, Tensor]:
        """The factor's triangle (b, b) of a panel, and what is below it."""
        held = torch.from_numpy(np.array(self._panels[panel]))
        release(self._panels[panel])
        return held.split([held.shape[1], len(held) - held.shape[1]])

    def _residual(self, solved: Tensor, right_sides: Tensor) -> float:
        """Of the kernel as it was given, whose two triangles differ by rounding."""
        scaled, missed = self.roots[:, None] * solved, torch.zeros(right_sides.shape[1], dtype=torch.float64)
        for panel in range(len(self._starts)):
            own = self._slice(panel)
            products = self.roots[own, None] * (self.rows(own).double().cpu() @ scaled) + self.ridge * solved[own]
            missed += (products - right_sides[own]).square().sum(dim=0)
        sizes = right_sides.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return float((missed.sqrt() / sizes).max())


def _singular(ridge: float) -> UserError:
    return UserError(
        f"a system of the gradients' kernel cannot be solved with a ridge of {ridge:.3g}, or, of an influence function, its "
        f"damping times the number of training examples; raise it, or leave it to the default"
    )
