"""TRAK's regression on a gradient kernel that is larger than the study's memory budget: its rows and its factor on disk.

The kernel's rows are computed a panel's at a time and kept in results/<experiment>/kernel_parts/ until the member is scored, so
that a killed run loses one panel; n_train^2 numbers in float32. The factor takes half as many in float64. What stays in memory
is four panels, a chunk of gradients, and the scores (n_train, n_test).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tda.data.splits import Split
from tda.gradients.gradient_kernel import Examples, examples_at_once
from tda.gradients.gradient_plan import GradientPlan
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import Quantity
from tda.gradients.single_precision import without_autocast
from tda.system.inputs import chosen, count_of
from tda.system.resumable_parts import ResumableParts
from tda.training.members import Member
from tda.trak.kernel_on_disk import KernelOnDisk, panel_width


def kernel_fits(num_train: int, num_test: int, budget: int | None) -> bool:
    """Whether a budget of bytes has room for the kernel, its symmetric form, the system and its factor, and the scores."""
    return budget is None or 48 * num_train**2 + 32 * num_train * num_test <= budget


@dataclass(frozen=True)
class BlockedKernel:
    """The kernel (n_train, n_train) of a quantity's gradients, by panels, beside that with the test examples.

    method: whose parts they are; joined: whether an example's row is the sum of its quantities' gradients; scale: times the
    inner products.
    """

    member: Member
    method: str
    plan: GradientPlan
    train: Split
    test: Split
    quantity: Quantity
    joined: bool = False
    scale: float = 1.0

    def solve(self, ridge_of: Callable[[Tensor], float], roots: Tensor | None = None) -> tuple[Tensor, float, float]:
        """(R K R + ridge)^-1 R k (n_train, n_test) float64 on the member's device, the ridge, the largest relative residual.

        ridge_of: of the kernel's diagonal (n,) float64; roots: the diagonal of R, ones without it. Raises UserError where the
        memory budget is too small for four panels, or the matrix cannot be inverted.
        """
        count, budget = len(self.train), self.member.study.memory_budget
        width = panel_width(count, budget)
        panels = [torch.arange(start, min(start + width, count)) for start in range(0, count, width)]
        parts, diagonal, cross = self._parts(), [], []
        for panel in panels:
            found = parts.result(panel, lambda panel=panel: self._computed(panel, budget))
            diagonal.append(found["gram"].double().diagonal(int(panel[0])))
            cross.append(found["cross"].double())
        ridge = ridge_of(torch.cat(diagonal))

        def rows(panel: slice) -> Tensor:
            own = torch.arange(panel.start, panel.stop)
            return parts.result(own, lambda: self._computed(own, budget))["gram"]

        folder = self.member.study.results.path
        kernel = KernelOnDisk(rows, count, ridge, folder, width, roots)
        right_sides = torch.cat(cross) if roots is None else roots.double().cpu()[:, None] * torch.cat(cross)
        residual = 0.0
        for columns in torch.arange(right_sides.shape[1]).split(max(1, budget // (96 * count))):
            right_sides[:, columns], missed = kernel.solve(right_sides[:, columns])
            residual = max(residual, missed)
        parts.remove(panels)
        return right_sides.to(self.member.device), ridge, residual

    def _parts(self) -> ResumableParts:
        member = self.member
        name = f"{self.method}_{'logits' if self.joined else 'margins'}"
        folder = member.study.results.kernel_folder(name, member.seed_id, member.epoch)
        work = (member.info["sha256"], self.train.fingerprint, self.test.fingerprint, self.scale, member.study.memory_budget)
        return ResumableParts(folder, f"{name} {work}")

    def _computed(self, panel: Tensor, budget: int) -> dict[str, Tensor]:
        left, right = (((split.inputs, split.labels)) for split in (self.train, self.test))
        own = (chosen(left[0], slice(int(panel[0]), int(panel[-1]) + 1)), left[1][panel[0] : panel[-1] + 1])
        return {name: self._products(own, other, budget // 4) for name, other in (("gram", left), ("cross", right))}

    def _products(self, left: Examples, right: Examples, budget: int) -> Tensor:
        """Inner products (left examples, right examples), the left ones in chunks of `budget` bytes."""
        with without_autocast(self.member.device):
            example_bytes = self.plan.example_bytes(*left, self.quantity)
            at_once, size = max(1, budget // (example_bytes + 1)), examples_at_once(self.plan, left[0], example_bytes, budget)
            found = []
            for start in range(0, count_of(left[0]), at_once):
                part = slice(start, start + at_once)
                held = self._form(self.plan.rows(chosen(left[0], part), left[1][part], self.quantity, size))
                blocks = self.plan.streamed(*right, self.quantity, size)
                found.append(torch.cat([held.inner(self._form(rows)) for rows in blocks], dim=1))
            return torch.cat(found) * self.scale

    def _form(self, rows: GradientRows) -> GradientRows:
        return rows.joined() if self.joined else rows
