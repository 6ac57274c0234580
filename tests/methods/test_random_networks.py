"""Any small network: every method scores it, or refuses it in a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CPU, SEEDS, make_root
from hypothesis import Phase, given, reject, settings
from random_cases import ODD_CONVOLUTIONS, REPEATABLE, Case, cases
from single_examples import labels_of
from tiny_model import plan, score

from tda.data.splits import Split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.models.families import ModelFamily
from tda.system.errors import UserError
from tda.training.ensembles import seed_run
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.study import Study

WITH_DEFAULTS = ("grad_dot", "grad_cos", "tracin", "gas", "repsim", "repdot", "trak", "trak_kernels")
WITH_DEFAULTS += ("if", "if_cg", "if_lissa", "ekfac", "ats", "loo", "unrolled")
METHODS = [
    *((name, {}) for name in WITH_DEFAULTS),
    ("unrolled", {"curvature": "gauss_newton"}),
    ("trak_projected", {"dimension": 16}),
    ("if_arnoldi", {"iterations": 3, "num_eigenvalues": 1}),
]

pytestmark = ODD_CONVOLUTIONS
# A smaller case costs minutes of training; the first one is told as it is.
QUICK = settings(REPEATABLE, max_examples=20, phases=[Phase.generate])


def assert_every_method_scores(case: Case) -> None:
    dtype = torch.float64 if case.dtype == torch.float64 else torch.float32
    case = replace(case, dtype=dtype, count=max(6, case.count), channels_last=False, training=False)
    inputs, task = case.inputs(), task_named("digits3")
    family = ModelFamily("random", "random network", lambda task: case.network(), shorter, "no script")
    train = Split(inputs, labels_of(inputs), torch.arange(case.count)).to(CPU)
    study = Study(Experiment("random", "digits3", 2), task, family, SEEDS, train, train[:3], CPU)
    try:
        ((_, (snapshot,)),) = train_many(
            study.new_model(), study.plan, task.objective, [seed_run(study, SEEDS[0])], train, keep_states=True
        )
    except RuntimeError as error:
        # An activation in place may overwrite what the backward pass needs; autograd says so.
        assert "modified by an inplace operation" in str(error)
        reject()
    member = Member(study, 0, 3, snapshot.state, {})
    for method, chosen in METHODS:
        try:
            (found,) = score(method, [member], train, train[:3], **chosen)
        except UserError as error:
            # A derivative through the training needs every parameter in every batch, which experts do not give, and tangents,
            # which torch cannot send through some convolutions.
            assert method == "unrolled"
            assert "does not reach the trained parameter" in str(error) or "cannot follow tangents" in str(error)
            continue
        assert found.shape == (case.count, 3) and torch.isfinite(found).all(), method


def shorter(task: object) -> object:
    """The plan of the tiny models in three epochs."""
    return replace(plan(task), epochs=3, num_kept_epochs=1)


@pytest.fixture
def empty_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDA_ROOT", str(tmp_path))
    make_root(tmp_path)


@QUICK
@given(case=cases())
def test_every_method_scores_random_networks(case: Case, empty_root: None) -> None:
    assert_every_method_scores(case)


@pytest.mark.long
@settings(QUICK, max_examples=500, derandomize=False, print_blob=True)
@given(case=cases())
def test_every_method_scores_many_random_networks(case: Case, empty_root: None) -> None:
    assert_every_method_scores(case)
