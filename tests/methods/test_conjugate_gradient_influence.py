"""Influence by block conjugate gradients against the closed form and against the exact solver of `if`."""

from dataclasses import replace

import pytest
import torch
from conftest import Ensemble, for_some
from tiny_model import explicit_gauss_newton, naive_gradients, score
from torch import nn
from torch.nn import functional

from tda.curvature import gauss_newton_rows
from tda.curvature.kronecker_coordinates import kronecker_coordinates
from tda.data.splits import load_split
from tda.gradients import gradient_kernel
from tda.methods import conjugate_gradient_influence as module
from tda.methods.registry import load_method
from tda.system.errors import UserError

EVERY_FAMILY = True


def solved(members, train, test, **settings):
    method = load_method("if_cg")
    return list(method.score(members, train, test, method.settings | settings))


@pytest.mark.parametrize("damping", [5e-3, for_some(0.1)])
@pytest.mark.parametrize("num_test", [for_some(4), 12], ids=["by test", "by train"])
@pytest.mark.parametrize("preconditioner", ["ekfac", for_some("none")])
def test_matches_the_closed_form(tiny, damping: float, num_test: int, preconditioner: str):
    train, test, members = tiny
    test, model = test[:num_test], members[0].model
    (found,) = solved(members[:1], train, test, damping=damping, tolerance=1e-10, preconditioner=preconditioner)
    curvature = explicit_gauss_newton(model, train)
    inverse = torch.linalg.inv(curvature + damping * torch.eye(len(curvature), dtype=curvature.dtype))
    expected = naive_gradients(model, train) @ inverse @ naive_gradients(model, test).T
    torch.testing.assert_close(found.scores, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
    assert found.report["largest_relative_residual"] < 1e-9


def test_is_the_exact_solve_to_the_tolerance(tiny):
    train, test, members = tiny
    (expected,) = score("if", members[:1], train, test, damping=0.02)
    for tolerance in (1e-2, 1e-6):
        (found,) = solved(members[:1], train, test, damping=0.02, tolerance=tolerance)
        assert found.report["largest_relative_residual"] < tolerance
        # |g_train| |x - x*| <= |g_train| |residual| / damping; in practice far below.
        assert float((found.scores - expected).norm() / expected.norm()) < 10 * tolerance


@pytest.mark.families("cnn")
def test_preconditioner_needs_fewer_products(tiny):
    """Where training gradients span the parameters: with fewer of them the curvature is 0 in most directions, where there is
    nothing to precondition. One right-hand side at a time: a block as wide as the model is solved at once in any case.
    """
    _, test, members = tiny
    study = members[0].study
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 3)).double()
    many = load_split(study.task, "test").cast(torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(model(many.inputs), many.labels).backward()
        optimizer.step()
    member = replace(members[0], cache={})
    member.__dict__["model"] = model
    counts = {}
    for name in ("ekfac", "none"):
        settings = {"damping": 1e-4, "tolerance": 1e-8, "preconditioner": name}
        counts[name] = [solved([member], many, test[i : i + 1], **settings)[0].report["iterations"] for i in range(4)]
    assert 2 * sum(counts["ekfac"]) < sum(counts["none"])


@pytest.mark.families("cnn", "text", "t5")
@pytest.mark.parametrize("preconditioner", ["ekfac", for_some("none", families=("cnn", "text"))])
@pytest.mark.parametrize("num_test", [2, 4], ids=["by test", "by train"])
def test_lots_and_recomputed_rows_change_nothing(tiny, monkeypatch: pytest.MonkeyPatch, num_test: int, preconditioner: str):
    train, test, members = tiny
    train, test, settings = train[:3], test[:num_test], {"damping": 5.0, "tolerance": 1e-9, "preconditioner": preconditioner}
    (expected,) = solved(members[:1], train, test, **settings)
    monkeypatch.setattr(module, "VECTOR_BYTES", 1)
    monkeypatch.setattr(gauss_newton_rows, "HELD_BYTES", 1)
    monkeypatch.setattr(gradient_kernel, "BLOCK_SIZE", 2)
    (found,) = solved(members[:1], train, test, **settings)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-6, atol=1e-9 * float(expected.scores.abs().max()))


def test_float32_on_a_real_member_agrees_with_the_exact_solve(ensemble: Ensemble):
    members = ensemble.members(15)
    (expected,) = score("if", members, ensemble.train, ensemble.test)
    (found,) = solved(members, ensemble.train, ensemble.test)
    assert found.report["largest_relative_residual"] < 1e-4
    torch.testing.assert_close(found.scores, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_residual_tells_of_a_solver_that_was_stopped(tiny):
    train, test, members = tiny
    (found,) = solved(members[:1], train, test[:1], damping=1e-4, tolerance=1e-9, max_iterations=1, preconditioner="none")
    assert found.report["iterations"] == 1 and found.report["largest_relative_residual"] > 1e-3


def test_preconditioner_is_chosen_by_what_training_gradients_span(tiny):
    train, test, members = tiny
    (few,) = solved(members[:1], train, test)
    logits = 3 if train.labels.dim() == 1 else 14 * (train.labels.shape[1] - 1)
    enough = 9 * logits >= kronecker_coordinates(members[0].model, members[0].objective, train)[0].size
    assert few.report["preconditioner"] == ("ekfac" if enough else "none")
    assert solved(members[:1], train, test, preconditioner="ekfac")[0].report["preconditioner"] == "ekfac"


@pytest.mark.families("cnn")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"damping": 0.0}, "damping of the influence function must be positive, not 0.0"),
        ({"tolerance": -1.0}, "tolerance of if_cg must be positive, not -1.0"),
        ({"preconditioner": "kfac"}, "unknown preconditioner kfac; known ones are auto, ekfac, none"),
    ],
)
def test_settings_are_checked(tiny, settings: dict, words: str):
    train, test, members = tiny
    with pytest.raises(UserError, match=words):
        solved(members, train, test, **settings)
