"""Attention of transformers' models that is exact and twice differentiable, in place of fused kernels and of upcast softmax."""

from functools import cache

from torch import Tensor, nn

ATTENTION = "eager_in_own_precision"
"""What to give transformers as attn_implementation, once register_attention was called."""


@cache
def register_attention() -> None:
    """Make ATTENTION known to transformers, with masks (b, 1, queries, keys) that are added to the logits."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, _mask)


def _mask(*arguments: object, allow_is_bidirectional_skip: bool = False, **keywords: object) -> Tensor:
    """The mask of transformers' eager form, made even where every token counts.

    Whether one is needed depends on its values: to look at them, a GPU is waited for, and a stack of models cannot.
    """
    from transformers.masking_utils import eager_mask

    return eager_mask(*arguments, allow_is_bidirectional_skip=False, **keywords)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **unused: object,
) -> tuple[Tensor, Tensor]:
    """Attention of (b, heads, tokens, width) without a fused kernel, which would have no second derivative on the CPU.

    Unlike transformers' own eager form, the softmax stays in the model's precision, so that a float64 model is exact.
    position_bias: what T5 adds to the logits beside the mask. Keys and values may have fewer heads, of which each then serves
    several queries'.
    """
    if key.shape[1] != query.shape[1]:
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    for added in (position_bias, attention_mask):
        logits = logits if added is None else logits + added
    weights = logits.softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights
