"""Padding of texts, which a model that ignores it need not compute, and groups of texts of similar length.

A model that gives the same for a text whatever its padding holds, and however long it is, says so by an attribute
`ignores_padding` that is True.
"""

import torch
from torch import Tensor, nn

from tda.system.inputs import Inputs, chosen

_GROUPS = 4
"""Into how many groups of similar length a batch is cut."""


def without_padding(inputs: Inputs, labels: Tensor) -> tuple[Inputs, Tensor]:
    """Texts of a batch with labels (n, T), both cut behind the last token that a mask counts, which changes nothing.

    What a decoder reads and the labels are cut by its own mask. Other inputs, labels of another form, such as those of images
    with texts, and texts without masks are returned as they are, and so is everything on a GPU, which would have to wait for
    the length.
    """
    return _cut(inputs, labels) if labels.dim() == 2 and _are_texts(inputs) else (inputs, labels)


def in_groups(model: nn.Module, inputs: Inputs, labels: Tensor) -> list[tuple[Tensor, Inputs, Tensor]]:
    """A batch in groups of similar length without their padding: positions in the batch, inputs and labels of each.

    labels: (n,), or (n, T) for tokens. Empty for a model that does not say that it ignores padding, for inputs that are no
    texts with masks, and on a GPU.
    """
    if not getattr(model, "ignores_padding", False) or not _are_texts(inputs):
        return []
    groups = of_similar_length(inputs["attention_mask"]) or [(torch.arange(len(labels)), 0)]
    return [(positions, *_cut(chosen(inputs, positions), labels[positions])) for positions, _ in groups]


def of_similar_length(mask: Tensor) -> list[tuple[Tensor, int]]:
    """Positions of texts of similar length, and the longest length of each group, by a mask (n, T) of the tokens that count.

    None of a few texts, and none on a GPU, which would wait for them. Where the longest text of a batch decides, a third of it
    is padding, which costs as much as words.
    """
    if mask.device.type != "cpu" or len(mask) < 2 * _GROUPS:
        return []
    # Behind the last token that counts, wherever the padding is.
    ends = [max((place + 1 for place, counts in enumerate(row) if counts), default=1) for row in mask.tolist()]
    order = torch.tensor(ends).argsort(stable=True)
    return [(positions, max(ends[position] for position in positions.tolist())) for positions in order.chunk(_GROUPS)]


def _are_texts(inputs: Inputs) -> bool:
    """Whether they are texts with a mask, without images beside them, on a CPU."""
    if not isinstance(inputs, dict) or "attention_mask" not in inputs or inputs["attention_mask"].device.type != "cpu":
        return False
    return not any(part.dim() == 4 for part in inputs.values())


def _cut(inputs: dict[str, Tensor], labels: Tensor) -> tuple[Inputs, Tensor]:
    kept = {"": _counted_length(inputs["attention_mask"])}
    own = "decoder_" if "decoder_input_ids" in inputs else ""
    if own and "decoder_attention_mask" not in inputs:
        return inputs, labels
    if own:
        kept[own] = _counted_length(inputs[f"{own}attention_mask"])
    cut = {name: part[:, : kept[own if own and name.startswith(own) else ""]] for name, part in inputs.items()}
    return cut, labels[:, : kept[own]] if labels.dim() == 2 else labels


def _counted_length(mask: Tensor) -> int:
    """Places up to the last that a mask (n, T) counts, one at least."""
    return max(1, int(mask.any(dim=0).nonzero().max()) + 1) if bool(mask.any()) else mask.shape[1]
