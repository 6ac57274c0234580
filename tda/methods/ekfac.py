"""Influence functions with the eigenvalue-corrected Kronecker-factored curvature, EK-FAC (Grosse et al. 2023).

g_train^T (U (L + damping) U^T)^-1 g_test over linear layers and convolutions, layer by layer; other parameters (normalisation,
embeddings) are left out. The Fisher matrix's expectation over the model's own labels is taken exactly, or, where a label is one
of thousands of tokens, by drawing one for each place, as Grosse et al. do.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tda.curvature.factored_blocks import FactoredBlocks, RotatedBlocks
from tda.curvature.kronecker_factors import factored_plan, factors_and_rotated
from tda.curvature.kronecker_scores import inverse_scores
from tda.data.splits import Split
from tda.gradients.gradient_plan import plan_gradients
from tda.methods.registry import Attribution, per_member, register
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.system.random_streams import stream
from tda.training.members import Member, roots_of_example
from tda.training.study import Study

# Damping in units of a layer's mean eigenvalue, as in Grosse et al. 2023.
RELATIVE_DAMPING = 0.1
# Roots of one example's curvature beyond which the exact expectation is hopeless: a text of 30 tokens of 4,096 has 118,784.
MOST_ROOTS = 2**14
_EXAMPLES_AT_ONCE = 16

_MATRICES = ("empirical_fisher", "fisher", "sampled_fisher")


def _refuse(matrix: str, damping: float | None) -> None:
    """Raise UserError for settings that mean nothing."""
    if matrix not in _MATRICES:
        raise UserError(f"unknown curvature matrix {matrix}; known ones are {', '.join(_MATRICES)}")
    if damping is not None and damping <= 0:
        raise UserError(f"the damping of EK-FAC must be positive, not {damping}")


def _check(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    """Raise UserError for settings that mean nothing, or a Fisher matrix of texts that cannot be summed exactly."""
    _refuse(**settings)
    labels, vocabulary = study.train.labels, getattr(study.task.kind, "vocabulary", None)
    if settings["matrix"] == "fisher" and labels.dim() > 1 and vocabulary is not None:
        _require_few_roots((labels.shape[1] - 1) * vocabulary().size)


@register(
    "ekfac",
    "EK-FAC",
    "Grosse et al. 2023; George et al. 2018",
    check=_check,
    matrix="fisher",
    damping=None,
)
@per_member
def ekfac(member: Member, train: Split, test: Split, matrix: str, damping: float | None) -> Attribution:
    """Influence of each training example on each test loss.

    matrix: "fisher", exactly; "sampled_fisher", with labels that the model draws once for each training example, or token; or
    "empirical_fisher", with the training labels; damping: added to every eigenvalue, by default 0.1 times the layer's mean
    eigenvalue. The report names the parameters that are left out. Raises UserError for an unknown matrix, a damping that is not
    positive, a model without linear layers, or "fisher" for a model of so many logits that it would take for ever.
    """
    return scores_by_ekfac(member, train, test, matrix, damping)


def scores_by_ekfac(member: Member, train: Split, test: Split, matrix: str, damping: float | None) -> Attribution:
    """What the method `ekfac` gives for one member."""
    _refuse(matrix, damping)
    objective = member.objective
    if matrix == "fisher":
        _require_few_roots(roots_of_example(member, train))
    quantities = {
        "fisher": objective.curvature_roots,
        "empirical_fisher": objective.loss,
        "sampled_fisher": objective.drawn_root,
    }
    complete = plan_gradients(member.model, train.inputs)
    plan = factored_plan(complete)
    fitted, is_drawn = train, matrix == "sampled_fisher"
    if is_drawn:
        fitted = replace(train, labels=_drawn_labels(member, train))
    factors, (rotated,) = factors_and_rotated([FactoredBlocks(plan, fitted, quantities[matrix])], spans_losses=not is_drawn)
    dampings = [RELATIVE_DAMPING * layer.mean if damping is None else damping for layer in factors]
    if matrix != "empirical_fisher":
        rotated = RotatedBlocks(FactoredBlocks(plan, train, objective.loss), factors)
    scores = inverse_scores(factors, dampings, rotated, RotatedBlocks(FactoredBlocks(plan, test, objective.loss), factors))
    covered = {name for layer in plan.layers for name in layer.parameters.values()}
    left_out = [name for name in complete.shapes if name not in covered]
    return Attribution(scores, {"largest_damping": max(dampings), "parameters_left_out": left_out})


def _require_few_roots(roots: int) -> None:
    if roots > MOST_ROOTS:
        raise UserError(
            f"the curvature of one example has {roots:,} roots, over which EK-FAC's Fisher matrix cannot be summed; "
            "choose --ekfac.matrix sampled_fisher"
        )


def _drawn_labels(member: Member, train: Split) -> Tensor:
    """Labels in the shape of the training ones, drawn from the model's own predictions; the member's seed fixes them."""
    chances = torch.rand(train.labels.shape, generator=stream(member.seed, f"ekfac labels of epoch {member.epoch}"))
    drawn, start = [], 0
    with torch.no_grad():
        for inputs, labels in train.batches(_EXAMPLES_AT_ONCE):
            of_batch = chances[start : start + len(labels)].to(labels.device)
            drawn.append(member.objective.drawn_labels(call(member.model, inputs), labels, of_batch))
            start += len(labels)
    return torch.cat(drawn)
