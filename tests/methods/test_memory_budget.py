"""Methods within a memory budget give what they give in memory, and go on where they were killed."""

from dataclasses import replace

import pytest
import torch
from conftest import Ensemble

from tda.methods.registry import Attribution, load_method
from tda.system.errors import UserError
from tda.training import kernel_in_blocks
from tda.training.members import Member
from tda.training.projected_gradients import projection_of, stored_factor, stored_rows

EVERY_FAMILY = True
DIMENSION = 4
KERNEL_BUDGET = 32 * 6 * 4
"""Panels of four columns of the kernel of six training examples."""
CURVATURE_BUDGET = 32 * 60 * 20
"""Panels of two examples' rows of the kernel of six training examples and ten classes."""
ROWS_BUDGET = 24 * DIMENSION**2 + 24 * DIMENSION * 2
"""Blocks of two rows of projected gradients."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is made of six examples be cut."""
    monkeypatch.setattr("tda.trak.kernel_on_disk._FEWEST_COLUMNS", 1)
    monkeypatch.setattr("tda.trak.ridge._FEWEST_ROWS", 1)


def member_with(ensemble: Ensemble, budget: int | None) -> Member:
    (member,) = ensemble.members(ensemble.study.plan.kept_epochs[-1])
    return replace(member, study=replace(member.study, memory_budget=budget), cache={})


def scored(name: str, member: Member, ensemble: Ensemble, **changed: object) -> Attribution:
    method = load_method(name)
    (found,) = method.score([member], ensemble.train, ensemble.test, method.settings | changed)
    return found


def budget_of(name: str) -> int:
    return {"trak_projected": ROWS_BUDGET, "if": CURVATURE_BUDGET}.get(name, KERNEL_BUDGET)


@pytest.mark.parametrize("name", ["trak", "trak_kernels", "trak_projected", "if"])
def test_scores_within_a_budget_are_those_in_memory(ensemble: Ensemble, name: str):
    changed = {"dimension": DIMENSION} if name == "trak_projected" else {}
    expected = scored(name, member_with(ensemble, None), ensemble, **changed)
    found = scored(name, member_with(ensemble, budget_of(name)), ensemble, **changed)
    torch.testing.assert_close(
        found.scores.double(), expected.scores.double(), rtol=2e-5, atol=1e-6 * float(expected.scores.abs().max())
    )
    report, before = (each.report.get("margins", each.report) for each in (found, expected))
    assert report.get("ridge", 0.0) == pytest.approx(before.get("ridge", 0.0), rel=1e-6)
    assert report["largest_relative_residual"] < 1e-5
    assert found.report.get("solver", "on disk").endswith("on disk")
    folder = ensemble.study.results.path
    assert not [path for path in folder.rglob("kernel_parts/**/*") if path.is_file()]


@pytest.mark.families("cnn")
@pytest.mark.parametrize("name", ["trak", "trak_projected", "if"])
def test_what_a_killed_run_left_is_not_computed_again(ensemble: Ensemble, name: str, monkeypatch: pytest.MonkeyPatch):
    changed = {"dimension": DIMENSION} if name == "trak_projected" else {}
    expected = scored(name, member_with(ensemble, budget_of(name)), ensemble, **changed)
    with monkeypatch.context() as patched:
        # Killed once the kernel's or the gradients' rows are there.
        projected = name == "trak_projected"
        target = "tda.methods.trak_projected.squared_norms" if projected else "tda.training.kernel_in_blocks.KernelOnDisk"
        patched.setattr(target, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scored(name, member_with(ensemble, budget_of(name)), ensemble, **changed)
    refuse = lambda *_, **__: pytest.fail("computed again")  # noqa: E731
    monkeypatch.setattr(kernel_in_blocks.BlockedKernel, "_computed", refuse)
    monkeypatch.setattr("tda.gradients.projections.Projection.project", refuse)
    found = scored(name, member_with(ensemble, budget_of(name)), ensemble, **changed)
    assert torch.equal(found.scores, expected.scores)


@pytest.mark.families("cnn")
def test_float16_changes_scores_by_its_rounding_alone(ensemble: Ensemble):
    member = member_with(ensemble, None)
    expected = scored("trak_projected", member, ensemble)
    found = scored("trak_projected", member, ensemble, half_precision=True)
    error = (found.scores - expected.scores).norm() / expected.scores.norm()
    assert 0 < error < 5e-3


@pytest.mark.families("cnn")
def test_rows_of_another_checkpoint_do_not_count(ensemble: Ensemble):
    member = member_with(ensemble, None)
    drawn = projection_of(member, DIMENSION, 0, "sparse")
    rows, targets = stored_rows(member, ensemble.train, ensemble.test, drawn, half_precision=False)
    assert rows.finished.all() and targets.finished.all()
    before = stored_factor(rows, member.device, None).copy()
    other = replace(member, info=member.info | {"sha256": "another"})
    torch.nn.init.ones_(next(other.model.parameters()))
    rows, _ = stored_rows(other, ensemble.train, ensemble.test, drawn, half_precision=False)
    assert abs(stored_factor(rows, member.device, None) - before).max() > 1e-3


@pytest.mark.families("cnn")
def test_a_budget_without_room_is_refused(ensemble: Ensemble):
    for name, word in (
        ("trak", r"kernel of 6 gradients; give 1\.8e-07 or more"),
        ("if", r"kernel of 54 gradients; give 1\.5e-05 or more"),
        ("trak_projected", "too small for proj_dim"),
    ):
        with pytest.raises(UserError, match=word):
            scored(name, member_with(ensemble, 100), ensemble)
