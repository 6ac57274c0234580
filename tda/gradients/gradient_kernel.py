"""Exact inner products of per-example parameter gradients, by one forward and one backward pass over the examples.

A linear layer's gradient is the outer product of its input a and its output gradient d, so that two of them have the inner
product (a . a') (d . d') without being formed; other layers are formed where that costs less.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.gradients.activation_memory import activation_bytes, fitting
from tda.gradients.gradient_plan import BLOCK_SIZE, GradientPlan, plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.gradients.single_precision import without_autocast
from tda.system.inputs import Inputs, chosen, count_of, device_of

Examples = tuple[Inputs, Tensor]
"""Inputs and labels of n examples."""


@dataclass(frozen=True)
class GradientKernel:
    """Inner products of gradients of left and right examples' quantities.

    cross: (left rows, right rows); left_norms, right_norms: Euclidean norms (rows,); left_gram: (left rows, left rows) where it
    was asked for. With R quantities, rows i * R to i * R + R - 1 belong to example i. All are in the model's precision.
    """

    cross: Tensor
    left_norms: Tensor
    right_norms: Tensor
    left_gram: Tensor | None


def gradient_kernel(
    model: nn.Module,
    left: Examples,
    right: Examples,
    quantity: Quantity = cross_entropy_loss,
    left_quantity: Quantity | None = None,
    parameters: Collection[str] | None = None,
    left_gram: bool = False,
    memory_budget: int = 3 * 2**29,
    block_size: int | None = None,
    progress: Callable[[int], object] | None = None,
    plan: GradientPlan | None = None,
) -> GradientKernel:
    """Inner products between all left and right examples' gradients.

    The left rows are held in chunks of memory_budget bytes, and the right examples stream by once for each chunk: put the
    smaller set on the left. left_quantity: the left examples' quantity if it is another; parameters: names, by default all
    that the model trains; block_size: examples in a pass, by default what suits the budget; progress: called with the number
    of right examples just finished, each counted once for each chunk; plan: that of an earlier call for the same model, which
    replaces parameters. The model runs in evaluation mode.

    Raises UserError if a parameter is unknown or batch normalisation is in training mode.
    """
    with without_autocast(device_of(left[0])):
        left_count, right_count = count_of(left[0]), count_of(right[0])
        left_quantity = left_quantity or quantity
        is_own, plan = plan is None, plan or plan_gradients(model, left[0], parameters, left_count, right_count)
        example_bytes = plan.example_bytes(*left, left_quantity)
        held_at_once = max(1, memory_budget // (example_bytes + 1))
        if is_own and held_at_once < left_count:
            # The right examples' gradients would be formed anew for each chunk, which changes what is cheaper.
            plan = plan_gradients(model, left[0], parameters, held_at_once, right_count)
            example_bytes = plan.example_bytes(*left, left_quantity)
            held_at_once = max(1, memory_budget // (example_bytes + 1))
        block_size = block_size or examples_at_once(plan, left[0], example_bytes, memory_budget)
        chunks = [slice(start, start + held_at_once) for start in range(0, left_count, held_at_once)]
        cross, left_norms, grams = [], [], []
        for held in (plan.rows(*_part(left, chunk), left_quantity, block_size) for chunk in chunks):
            left_norms.append(held.squared_norms().sqrt())
            products, right_norms = _products(held, plan.streamed(*right, quantity, block_size), progress)
            cross.append(products)
            if left_gram and len(chunks) == 1:
                grams.append(held.gram())
            elif left_gram:
                grams.append(_products(held, plan.streamed(*left, left_quantity, block_size))[0])
        return GradientKernel(torch.cat(cross), torch.cat(left_norms), right_norms, torch.cat(grams) if left_gram else None)


def examples_at_once(plan: GradientPlan, inputs: Inputs, example_bytes: int, memory_budget: int = 2**30) -> int:
    """How many examples a pass takes whose gradients have example_bytes each, for what it holds to fit the budget."""
    # A pass holds activations, unfolded patches and gradients at once.
    by_gradients = max(1, min(BLOCK_SIZE, memory_budget // (4 * example_bytes + 1)))
    return fitting(activation_bytes(plan.model, inputs), by_gradients)


def _products(
    held: GradientRows, blocks: Iterator[GradientRows], progress: Callable[[int], object] | None = None
) -> tuple[Tensor, Tensor]:
    """Inner products (held rows, rows of all blocks) and the norms of the blocks' rows."""
    products, norms = [], []
    for rows in blocks:
        products.append(held.inner(rows))
        norms.append(rows.squared_norms().sqrt())
        if progress is not None:
            progress(len(rows.values))
    return torch.cat(products, dim=1), torch.cat(norms)


def _part(examples: Examples, positions: slice) -> Examples:
    inputs, labels = examples
    return chosen(inputs, positions), labels[positions]
