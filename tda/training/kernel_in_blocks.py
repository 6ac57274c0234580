"""Systems of a gradient kernel that is larger than the study's memory budget: its rows and its factor on disk.

The kernel's rows are computed a panel's at a time and kept in results/<experiment>/kernel_parts/ until the member is scored, so
that a killed run loses one panel; count^2 numbers in the model's precision. The factor takes half as many in float64. What
stays in memory is four panels, a chunk of gradients, and the scores (n_train, n_test).
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import Examples, examples_at_once
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import Quantity
from tda.gradients.single_precision import without_autocast
from tda.system.files import make_folder
from tda.system.inputs import chosen, count_of
from tda.system.memory import release
from tda.system.resumable_parts import ResumableParts
from tda.training.members import Member
from tda.trak.kernel_on_disk import KernelOnDisk, panel_width


def kernel_fits(num_train: int, num_test: int, budget: int | None) -> bool:
    """Whether a budget of bytes has room for the kernel, its symmetric form, the system and its factor, and the scores."""
    return budget is None or 48 * num_train**2 + 32 * num_train * num_test <= budget


@dataclass(frozen=True)
class BlockedKernel:
    """The kernel (count, count) of a quantity's gradients, by panels, beside that with the test examples.

    name: of its parts; rows_of_example: how many gradients a training example has, R, so that count is n_train * R;
    test_quantity: of the test examples, one each, where it is another; joined: whether an example's row is the sum of its
    quantities' gradients; scale: times the inner products.
    """

    member: Member
    name: str
    plan: GradientPlan
    train: Split
    test: Split
    quantity: Quantity
    test_quantity: Quantity | None = None
    rows_of_example: int = 1
    joined: bool = False
    scale: float = 1.0

    def solve(
        self,
        ridge_of: Callable[[Tensor], float],
        roots: Tensor | None = None,
        combined: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, float, float]:
        """(R K R + ridge)^-1 R k (count, n_test) float64 on the member's device, the ridge, the largest relative residual.

        ridge_of: of the kernel's diagonal (count,) float64; roots: the diagonal of R, ones without it; combined: makes
        (n_train, m) of solutions (count, m) on the CPU, so that no more of them are held. Raises UserError where the memory
        budget is too small for four panels, or the matrix cannot be inverted.
        """
        count, budget = len(self.train) * self.rows_of_example, self.member.study.memory_budget
        width = panel_width(count, budget, self.rows_of_example)
        panels = torch.arange(len(self.train)).split(width // self.rows_of_example)
        parts, folder = self._parts(), self.member.study.results.path
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            shape = (count, len(self.test))
            file.truncate(8 * count * len(self.test))
            cross = np.memmap(file, np.float64, "r+", shape=shape)
        ridge = ridge_of(self._computed_diagonal(parts, panels, cross))

        def rows(panel: slice) -> Tensor:
            own = torch.arange(panel.start // self.rows_of_example, panel.stop // self.rows_of_example)
            return parts.result(own, lambda: self._computed(own, budget))["gram"]

        kernel = KernelOnDisk(rows, count, ridge, folder, width, roots)
        found, residual = [], 0.0
        for columns in torch.arange(len(self.test)).split(max(1, budget // (96 * count))):
            right_sides = torch.from_numpy(np.array(cross[:, columns[0] : columns[-1] + 1]))
            release(cross)
            solved, missed = kernel.solve(right_sides if roots is None else roots.double().cpu()[:, None] * right_sides)
            found.append(solved if combined is None else combined(solved))
            residual = max(residual, missed)
        parts.remove(panels)
        return torch.cat(found, dim=1).to(self.member.device), ridge, residual

    def _parts(self) -> ResumableParts:
        member = self.member
        folder = member.study.results.kernel_folder(self.name, member.seed_id, member.epoch)
        work = (member.info["sha256"], self.train.fingerprint, self.test.fingerprint, self.scale, member.study.memory_budget)
        return ResumableParts(folder, f"{self.name} {work}")

    def _computed_diagonal(self, parts: ResumableParts, panels: Sequence[Tensor], cross: np.memmap) -> Tensor:
        """Compute all parts that are missing, and fill in the inner products with the test examples."""
        budget, diagonal = self.member.study.memory_budget, []
        for panel in panels:
            found = parts.result(panel, lambda panel=panel: self._computed(panel, budget))
            first = int(panel[0]) * self.rows_of_example
            diagonal.append(found["gram"].double().diagonal(first))
            cross[first : first + len(found["cross"])] = found["cross"].numpy()
            release(cross)
        return torch.cat(diagonal)

    def _computed(self, panel: Tensor, budget: int) -> dict[str, Tensor]:
        left, right = (((split.inputs, split.labels)) for split in (self.train, self.test))
        own = (chosen(left[0], slice(int(panel[0]), int(panel[-1]) + 1)), left[1][panel[0] : panel[-1] + 1])
        pairs = {"gram": (left, self.quantity), "cross": (right, self.test_quantity or self.quantity)}
        return {name: self._products(own, *pair, budget // 4) for name, pair in pairs.items()}

    def _products(self, left: Examples, right: Examples, right_quantity: Quantity, budget: int) -> Tensor:
        """Inner products (left rows, right rows), the left examples in chunks of `budget` bytes."""
        with without_autocast(self.member.device):
            example_bytes = self.plan.example_bytes(*left, self.quantity)
            at_once, size = max(1, budget // (example_bytes + 1)), examples_at_once(self.plan, left[0], example_bytes, budget)
            found = []
            for start in range(0, count_of(left[0]), at_once):
                part = slice(start, start + at_once)
                held = self._form(self.plan.rows(chosen(left[0], part), left[1][part], self.quantity, size))
                blocks = self.plan.streamed(*right, right_quantity, size)
                found.append(torch.cat([held.inner(self._form(rows)) for rows in blocks], dim=1))
            return torch.cat(found) * self.scale

    def _form(self, rows: GradientRows) -> GradientRows:
        return rows.joined() if self.joined else rows
