"""Influence functions with the eigenvalue-corrected Kronecker-factored curvature, EK-FAC (Grosse et al. 2023).

g_train^T (U (L + damping) U^T)^-1 g_test over linear layers and convolutions, layer by layer; other parameters (normalisation,
embeddings) are left out. The Fisher matrix's expectation over the model's own labels is taken exactly, not by drawing labels.
"""

import torch

from tda.curvature.kronecker_factors import blocks_of_rows, factored_plan, kronecker_factors
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.methods.registry import Attribution, of_settings, per_member, register
from tda.system.errors import UserError
from tda.training.members import Member

# Damping in units of a layer's mean eigenvalue, as in Grosse et al. 2023.
RELATIVE_DAMPING = 0.1
# Numbers in the training gradients that are held at once.
_HELD_NUMBERS = 2**28

_MATRICES = ("empirical_fisher", "fisher")


def _refuse(matrix: str, damping: float | None) -> None:
    """Raise UserError for settings that mean nothing."""
    if matrix not in _MATRICES:
        raise UserError(f"unknown curvature matrix {matrix}; known ones are {', '.join(_MATRICES)}")
    if damping is not None and damping <= 0:
        raise UserError(f"the damping of EK-FAC must be positive, not {damping}")


@register(
    "ekfac",
    "EK-FAC",
    "Grosse et al. 2023; George et al. 2018",
    check=of_settings(_refuse),
    matrix="fisher",
    damping=None,
)
@per_member
def ekfac(member: Member, train: Split, test: Split, matrix: str, damping: float | None) -> Attribution:
    """Influence of each training example on each test loss.

    matrix: "fisher", or "empirical_fisher" with the training labels instead of the model's; damping: added to every
    eigenvalue, by default 0.1 times the layer's mean eigenvalue. The report names the parameters that are left out.
    Raises UserError for an unknown matrix, a damping that is not positive, or a model without linear layers.
    """
    _refuse(matrix, damping)
    quantities = {"fisher": member.objective.curvature_roots, "empirical_fisher": member.objective.loss}
    complete = plan_gradients(member.model, train.inputs)
    plan = factored_plan(complete)
    factors = kronecker_factors([plan], train, quantities[matrix])
    dampings = [RELATIVE_DAMPING * layer.mean if damping is None else damping for layer in factors]
    inverses = [1 / (layer.eigenvalues + added) for layer, added in zip(factors, dampings, strict=True)]
    size = sum(len(inverse) for inverse in inverses)
    scores = []
    for positions in torch.arange(len(train)).split(max(1, _HELD_NUMBERS // size)):
        blocks = [
            [layer.rotated(rows) * inverse for layer, rows, inverse in zip(factors, block, inverses, strict=True)]
            for block in blocks_of_rows(plan, train[positions], member.objective.loss)
        ]
        held = [torch.cat(parts) for parts in zip(*blocks, strict=True)]
        columns = [
            sum(left @ layer.rotated(rows).T for left, layer, rows in zip(held, factors, block, strict=True))
            for block in blocks_of_rows(plan, test, member.objective.loss)
        ]
        scores.append(torch.cat(columns, dim=1))
    covered = {name for layer in plan.layers for name in layer.parameters.values()}
    left_out = [name for name in complete.shapes if name not in covered]
    return Attribution(torch.cat(scores), {"largest_damping": max(dampings), "parameters_left_out": left_out})
