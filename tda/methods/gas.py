"""Gradient aggregated similarity (GAS): TracInCP with every gradient at norm 1 (Hammoudeh and Lowd 2022).

GAS(z, z') = sum over kept checkpoints of eta cos(g(z), g(z')), so that no example or checkpoint counts more because its loss is
large. Score files relate to the sum as in tracin.py; under a constant learning rate a file is Grad-Cos times a constant.
"""

from tda.data.splits import Split
from tda.methods.gradient_similarity import cosines, scored_kernel
from tda.methods.registry import Attribution, per_member, register
from tda.methods.tracin import checkpoint_weight
from tda.training.members import Member


@register("gas", "GAS", "Hammoudeh and Lowd 2022")
@per_member
def gas(member: Member, train: Split, test: Split) -> Attribution:
    """Kept checkpoints * learning rate * cosine of the two loss gradients; 0 where a gradient is exactly 0."""
    similar = cosines(scored_kernel(member, train, test))
    return Attribution(checkpoint_weight(member, len(train)) * similar, positions=member.study.scored)
