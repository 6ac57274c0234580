"""Influence functions against the closed form with explicit matrices, in float64."""

from dataclasses import replace

import pytest
import torch
from conftest import Ensemble, for_some
from tiny_model import explicit_gauss_newton, explicit_hessian, flat_parameters, naive_gradients, score

from tda.data.splits import Split
from tda.gradients import gradient_plan
from tda.gradients.gradient_plan import GradientPlan
from tda.methods import influence as module
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.system.inputs import call
from tda.training.members import Member

EVERY_FAMILY = True

EXPLICIT = {"gauss_newton": explicit_gauss_newton, "hessian": explicit_hessian}


def closed_form(model: torch.nn.Module, train: Split, test: Split, matrix: str, damping: float) -> torch.Tensor:
    curvature = EXPLICIT[matrix](model, train)
    inverse = torch.linalg.inv(curvature + damping * torch.eye(len(curvature), dtype=curvature.dtype))
    return naive_gradients(model, train) @ inverse @ naive_gradients(model, test).T


@pytest.mark.parametrize("damping", [5e-3, for_some(0.1)])
def test_gauss_newton_dual_matches_the_closed_form(tiny, damping: float):
    train, test, members = tiny
    found = list(load_method("if").score(members, train, test, load_method("if").settings | {"damping": damping}))
    for member, attribution in zip(members, found, strict=True):
        expected = closed_form(member.model, train, test, "gauss_newton", damping)
        torch.testing.assert_close(attribution.scores.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
        assert attribution.report["solver"].startswith("dual")
        assert 0 <= attribution.report["largest_relative_residual"] < 1e-10


@pytest.mark.families("cnn", "vit", "language", "t5")
@pytest.mark.parametrize(
    ("matrix", "more_training_examples"),
    [("gauss_newton", False), ("gauss_newton", True), for_some("hessian", True, families=("cnn", "language"))],
)
def test_iterative_solver_matches_the_closed_form(tiny, monkeypatch, matrix: str, more_training_examples: bool):
    train, test, members = tiny
    if more_training_examples:
        test = test[:4]
    monkeypatch.setattr(module, "DUAL_LIMIT", 0)
    monkeypatch.setattr(module, "PRIMAL_LIMIT", 0)
    settings = load_method("if").settings | {"matrix": matrix, "damping": 0.05, "tolerance": 1e-8, "max_iterations": 2000}
    (attribution,) = load_method("if").score(members[:1], train, test, settings)
    expected = closed_form(members[0].model, train, test, matrix, 0.05)
    torch.testing.assert_close(attribution.scores.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert attribution.report["solver"] == "MINRES"
    assert 0 < attribution.report["largest_relative_residual"] < 1e-6


def test_few_parameters_are_solved_in_their_own_space(tiny, monkeypatch):
    train, test, members = tiny
    monkeypatch.setattr(module, "DUAL_LIMIT", 0)
    settings = load_method("if").settings | {"damping": 0.05}
    (attribution,) = load_method("if").score(members[:1], train, test, settings)
    expected = closed_form(members[0].model, train, test, "gauss_newton", 0.05)
    torch.testing.assert_close(attribution.scores.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert attribution.report["solver"] == "primal"
    assert 0 <= attribution.report["largest_relative_residual"] < 1e-10


@pytest.mark.parametrize("limit", [5, 1000])
def test_heaviest_rows_are_the_gauss_newton_matrix_of_those_rows(tiny, monkeypatch, limit: int):
    train, test, members = tiny
    model, objective = members[0].model, members[0].objective
    monkeypatch.setattr(module, "DUAL_LIMIT", limit)
    (attribution,) = load_method("if").score(
        members[:1], train, test, load_method("if").settings | {"matrix": "heaviest_rows", "damping": 0.05}
    )
    rows = naive_gradients(model, train, lambda logits, label: objective.logit_roots(logits, label[None]))
    torch.testing.assert_close(rows.T @ rows / len(train), explicit_gauss_newton(model, train))
    longest = rows.norm(dim=1).argsort(descending=True)[:limit]
    curvature = rows[longest].T @ rows[longest] / len(train)
    inverse = torch.linalg.inv(curvature + 0.05 * torch.eye(len(curvature), dtype=curvature.dtype))
    expected = naive_gradients(model, train) @ inverse @ naive_gradients(model, test).T
    torch.testing.assert_close(attribution.scores.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    share = rows[longest].square().sum() / rows.square().sum()
    assert attribution.report["kept_share_of_trace"] == pytest.approx(float(share))


def within_budget(member: Member, budget: int) -> Member:
    return replace(member, study=replace(member.study, memory_budget=budget), info={"sha256": "a checkpoint's"})


@pytest.mark.families("cnn", "vit", "language")
@pytest.mark.parametrize("examples", [1, 8])
def test_kernel_on_disk_is_the_closed_form(tiny, monkeypatch, examples: int):
    train, test, members = tiny
    model, objective = members[0].model, members[0].objective
    num_roots = objective.curvature_roots(call(model, train[:1].inputs), train[:1].labels).shape[1]
    rows = len(train) * num_roots
    monkeypatch.setattr("tda.trak.kernel_on_disk._FEWEST_COLUMNS", 1)
    # The scores themselves are rounded to float32; here they are taken before.
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    exact, _ = module.dual_influence(model, objective, train, test, 0.05)
    member = within_budget(members[0], 32 * rows * num_roots * examples)
    found, residual = module.dual_influence_on_disk(member, train, test, 0.05, num_roots)
    expected = closed_form(model, train, test, "gauss_newton", 0.05)
    for values in (exact, found):
        torch.testing.assert_close(values, expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))
    assert 0 < residual < 1e-10
    with pytest.raises(UserError, match=f"too small for the kernel of {rows} gradients; give"):
        module.dual_influence_on_disk(within_budget(members[0], 31 * rows), train, test, 0.05, num_roots)


@pytest.mark.families("cnn")
@pytest.mark.parametrize(("matrix", "solver"), [("gauss_newton", "primal"), ("gauss_newton", "MINRES"), ("hessian", "MINRES")])
def test_other_solvers_within_a_budget_are_the_closed_form(tiny, monkeypatch, matrix: str, solver: str):
    train, test, members = tiny
    monkeypatch.setattr(module, "DUAL_LIMIT", 0)
    monkeypatch.setattr(module, "PRIMAL_LIMIT", 8000 if solver == "primal" else 0)
    settings = load_method("if").settings | {"matrix": matrix, "damping": 2.0, "tolerance": 1e-8, "max_iterations": 2000}
    vectors = 2 * 8 * module._VECTORS_OF_MINRES * len(flat_parameters(members[0].model))
    formed = 2 * 32 * len(flat_parameters(members[0].model)) ** 2 if solver == "primal" else 0
    member = within_budget(members[0], formed + 3 * vectors)
    assert module.gradients_at_once(member.model, matrix, member.study.memory_budget) == 3
    (attribution,) = load_method("if").score([member], train, test[:3], settings)
    expected = closed_form(member.model, train, test[:3], matrix, 2.0)
    torch.testing.assert_close(attribution.scores.double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert attribution.report["solver"] == solver
    with pytest.raises(UserError, match="too small for this influence function; give .* or more"):
        list(load_method("if").score([within_budget(member, formed + vectors - 2)], train, test, settings))


@pytest.mark.families("cnn")
def test_heaviest_rows_without_room_are_refused(tiny):
    train, test, members = tiny
    settings = load_method("if").settings | {"matrix": "heaviest_rows"}
    with pytest.raises(UserError, match="too small for this influence function; give 2.9 or more"):
        list(load_method("if").score([within_budget(members[0], 2**30)], train, test, settings))


def test_hessian_of_the_tiny_model_is_indefinite(tiny):
    """Otherwise the comparison above would say nothing about networks."""
    train, _, members = tiny
    values = torch.linalg.eigvalsh(explicit_hessian(members[0].model, train))
    assert values[0] < -1e-4 < 1e-4 < values[-1]


def test_residual_tells_of_a_solver_that_was_stopped(tiny, monkeypatch):
    train, test, members = tiny
    settings = load_method("if").settings | {"matrix": "hessian", "max_iterations": 2}
    (attribution,) = load_method("if").score(members[:1], train, test, settings)
    assert attribution.report["largest_relative_residual"] > 1e-2


def test_dual_and_iterative_agree_on_a_real_member(ensemble: Ensemble, monkeypatch):
    members = ensemble.members(15)
    (dual,) = score("if", members, ensemble.train, ensemble.test)
    monkeypatch.setattr(module, "DUAL_LIMIT", 0)
    (iterative,) = score("if", members, ensemble.train, ensemble.test, tolerance=1e-5)
    torch.testing.assert_close(dual, iterative, rtol=1e-2, atol=1e-3 * float(dual.abs().max()))


def test_large_damping_gives_grad_dot(ensemble: Ensemble):
    members = ensemble.members(15)
    (influence,) = score("if", members, ensemble.train, ensemble.test, damping=1e6)
    (dot,) = score("grad_dot", members, ensemble.train, ensemble.test)
    torch.testing.assert_close(influence * 1e6, dot, rtol=1e-3, atol=1e-4 * float(dot.abs().max()))


@pytest.mark.parametrize("limit", [module.DUAL_LIMIT, 0], ids=["dual", "iterative"])
def test_block_size_does_not_matter(ensemble: Ensemble, monkeypatch, limit: int):
    members, sizes = ensemble.members(15), []
    monkeypatch.setattr(module, "DUAL_LIMIT", limit)
    block_rows = GradientPlan.block_rows

    def counting(plan, inputs, labels, quantity):
        sizes.append(len(labels))
        return block_rows(plan, inputs, labels, quantity)

    monkeypatch.setattr(GradientPlan, "block_rows", counting)
    (whole,) = score("if", members, ensemble.train, ensemble.test)
    assert max(sizes) == 21
    sizes.clear()
    monkeypatch.setattr(gradient_plan, "BLOCK_SIZE", 5)
    monkeypatch.setattr("tda.curvature.inverses._BLOCK", 4)
    (blocks,) = load_method("if").score(members, ensemble.train, ensemble.test, load_method("if").settings)
    # The loss's gradients come in blocks of 4, those of the curvature's roots, which MINRES does without, in blocks of 5.
    assert max(sizes) == (4 if blocks.report["solver"] == "MINRES" else 5)
    torch.testing.assert_close(whole, blocks.scores, rtol=1e-2, atol=1e-3 * float(whole.abs().max()))


def test_permuting_test_examples_permutes_columns(ensemble: Ensemble):
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    (first,), (second,) = (
        score("if", ensemble.members(15), ensemble.train, split) for split in (ensemble.test, ensemble.test[order])
    )
    torch.testing.assert_close(first[:, order], second, rtol=1e-4, atol=1e-6 * float(first.abs().max()))


@pytest.mark.parametrize("damping", [0.0, -1.0])
def test_damping_must_be_positive(ensemble: Ensemble, damping: float):
    with pytest.raises(UserError, match="damping.*must be positive"):
        score("if", ensemble.members(15), ensemble.train, ensemble.test, damping=damping)


def test_unknown_matrix_is_refused(ensemble: Ensemble):
    with pytest.raises(UserError, match="unknown curvature matrix fisher; known ones are gauss_newton, hessian"):
        score("if", ensemble.members(15), ensemble.train, ensemble.test, matrix="fisher")
