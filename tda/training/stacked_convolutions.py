"""Convolutions of stacked models as batched matrix products.

vmap turns a convolution whose weights differ from model to model into one with as many groups as models, for which GPUs have
slow kernels. Patches that are copied once and multiplied by each model's weights take the fast path of matrix products.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode


class ConvolutionsAsProducts(TorchFunctionMode):
    """Within this context conv2d without groups and dilation is a product of patches and weights; others stay what they are."""

    def __torch_function__(
        self, function: Callable, types: tuple, arguments: tuple = (), keywords: dict | None = None
    ) -> object:
        """What the function returns, convolutions computed as products."""
        keywords = keywords or {}
        if function is torch.conv2d:
            found = _as_product(*arguments, **keywords)
            if found is not None:
                return found
        return function(*arguments, **keywords)


def _as_product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """conv2d of inputs (b, c, h, w), (b, o, y, x) in the memory order (b, y, x, o); None if it is of another kind."""
    if groups != 1 or _pair(dilation) != (1, 1) or isinstance(padding, str) or input.dim() != 4:
        return None
    (down, right), (rows, columns) = _pair(stride), weight.shape[-2:]
    above, beside = _pair(padding)
    if above or beside:
        input = pad(input, (beside, beside, above, above))
    patches = input.unfold(2, rows, down).unfold(3, columns, right)
    patches = patches.permute(0, 2, 3, 1, 4, 5)
    found = patches.flatten(3) @ weight.flatten(1).T
    found = found if bias is None else found + bias
    return found.permute(0, 3, 1, 2)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
