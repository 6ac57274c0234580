"""RepSim and RepDot: how alike the representations of a training and a test example are, the input of the classifier.

Neither knows a label or a gradient: an example scores the same with a wrong label as with the right one in the same
representation, and a negative score says unlike, not harmful. Hanawa et al. 2021 compare both with influence functions.
A language model has a representation at every place of a text: they stand end to end, those of padding included.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tda.data.splits import Split
from tda.gradients.representations import penultimate_representations
from tda.methods.registry import Attribution, per_member, register
from tda.training.members import Member

_SIGN = "positive = alike; labels are not seen"


@register("repsim", "RepSim", "Charpiat et al. 2019; Hanawa et al. 2021", sign=_SIGN)
@per_member
def representation_cosine(member: Member, train: Split, test: Split) -> Attribution:
    """Cosine of the penultimate representations; 0 where one is exactly 0."""
    left, right = (functional.normalize(found, eps=torch.finfo(torch.float32).tiny) for found in _both(member, train, test))
    return Attribution((left @ right.T).clamp(-1, 1))


@register("repdot", "RepDot", "Hanawa et al. 2021", sign=_SIGN)
@per_member
def representation_product(member: Member, train: Split, test: Split) -> Attribution:
    """Inner product of the penultimate representations."""
    left, right = _both(member, train, test)
    return Attribution(left @ right.T)


def _both(member: Member, train: Split, test: Split) -> tuple[Tensor, Tensor]:
    """Representations (n_train, d) and (n_test, d), computed once per member."""
    return member.remember(
        "representations",
        (train, test),
        lambda: tuple(penultimate_representations(member.model, split.inputs) for split in (train, test)),
    )
