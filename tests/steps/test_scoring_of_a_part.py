"""Tasks that end in _whole: models learn from every example, and the rows of the drawn ones are those of all scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_refused, run_here, run_script

from tda.data.index_files import write_subset
from tda.data.splits import load_split, load_whole
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import read_manifest
from tda.methods.leave_one_out import loss_changes
from tda.scores.score_files import Scores, load_scores
from tda.training.members import load_member
from tda.training.study import open_study

# Digits 0 to 2 of which the classes have 5, 9 and 7 training examples.
TASK = """
from dataclasses import replace

import numpy as np

from tda.data.tasks import TASKS


def load(part):
    pool = TASKS["digits3"].load(part)
    kept = [np.flatnonzero(pool.labels == label)[:size] for label, size in enumerate((5, 9, 7))]
    positions = np.sort(np.concatenate(kept))
    return replace(pool, examples=pool.examples[positions], labels=pool.labels[positions])


TASK = replace(TASKS["digits3"], name="unequal", test_per_class=2, load=load)
"""
EXACT = ("ats", "loo", "ekfac", "if", "trak", "trak_projected", "unrolled")
TO_ROUNDING = ("grad_dot", "grad_cos", "tracin", "gas")
METHODS = (*EXACT, *TO_ROUNDING)
VARIANT = "batch4_epochs2_keep1"
FEW, ALL = (Experiment("cnn", "unequal_whole", size, VARIANT) for size in (2, 50))


@pytest.fixture
def scored(root: Path) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Scores of two examples a class, and of all of them, by every method."""
    (root / "tasks").mkdir()
    (root / "tasks" / "unequal.py").write_text(TASK)
    found = []
    for experiment in (FEW, ALL):
        for part, size in (("train", experiment.num_per_class), ("test", 2)):
            write_subset(task_named(experiment.task), part, size, draw_seed=0, force=False)
        named = {"task": experiment.task, "num_per_class": experiment.num_per_class, "variant": VARIANT}
        run_here("run_cnn_training.py", **named)
        run_here("run_tda.py", **named, methods={name: {} for name in METHODS} | {"trak_projected": {"dimension": 16}})
        found.append({name: load_scores(experiment.results, name) for name in METHODS})
    return tuple(found)


def test_rows_of_the_drawn_examples_are_those_of_all_scores(scored: tuple[dict[str, Scores], dict[str, Scores]]):
    few, every = scored
    pool = task_named("unequal").load("train")
    assert np.bincount(pool.labels[few["loo"].train_indices]).tolist() == [2, 2, 2]
    assert every["loo"].train_indices.tolist() != list(range(21)) == sorted(every["loo"].train_indices)
    rows = [every["loo"].train_indices.tolist().index(index) for index in few["loo"].train_indices]
    for name in METHODS:
        values = few[name].values
        assert values.shape == (3, 1, 6, 6) and np.ptp(values) > 0
        if name in EXACT:
            assert np.array_equal(values, every[name].values[:, :, rows]), name
        else:
            np.testing.assert_allclose(values, every[name].values[:, :, rows], rtol=1e-4, atol=1e-6 * np.abs(values).max())
    for member, report in few["trak"].reports.items():
        factors = np.array(every["trak"].reports[member]["train_factor"])
        assert report["train_factor"] == factors[rows].tolist() and len(factors) == 21


def test_models_learn_from_every_example(scored: tuple[dict[str, Scores], dict[str, Scores]]):
    few, every = (open_study(experiment, "cpu", may_learn_more=True) for experiment in (FEW, ALL))
    whole = load_whole(task_named("unequal"), "train")
    assert few.learned.indices.tolist() == whole.indices.tolist() == list(range(21))
    assert few.learned.labels.bincount().tolist() == [5, 9, 7]
    assert few.train.indices.tolist() == few.learned.indices[few.scored].tolist()
    assert few.hashes == {
        "train": load_split(task_named("unequal_whole"), "train", 2).fingerprint,
        "test": few.test.fingerprint,
        "learned": whole.fingerprint,
    }
    members = [load_member(study, 1, 2) for study in (few, every)]
    assert members[0].info["data"] == whole.fingerprint
    first, second = (member.state.parameters for member in members)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert read_manifest(FEW.results)["steps"]["training"]["input_sha256"] == few.hashes
    removed = loss_changes(members[0], few.inputs(few.learned), few.inputs(few.test), few.scored[:1])
    assert np.array_equal(removed[0, 0].numpy(), scored[0]["loo"].values[1, 0, 0])


def test_later_steps_take_the_drawn_rows(scored: tuple[dict[str, Scores], dict[str, Scores]]):
    for script in ("run_compute_pvalues.py", "run_correlation_analysis.py", "run_top_examples.py", "run_report.py"):
        run_here(script, experiment=FEW.name)
    lines = (FEW.results.path / "summary.csv").read_text().splitlines()
    assert len(lines) == len(METHODS) + 1 and all(line.split(",")[1:4] == ["1", "3", "36"] for line in lines[1:])


def test_steps_that_need_the_drawn_examples_to_be_all_refuse(root: Path):
    (root / "tasks").mkdir()
    (root / "tasks" / "unequal.py").write_text(TASK)
    write_subset(task_named("unequal_whole"), "train", 2, draw_seed=0, force=False)
    done = run_script("run_subset_retraining.py", *"--model cnn --task unequal_whole --num_per_class 2".split(), root=root)
    assert_refused(done, "models of task unequal_whole learn from all examples, of which only the drawn ones are scored")
    done = run_script("run_subset_generation.py", *"--task unequal --num_per_class 6".split(), root=root)
    assert_refused(done, "class 0 of unequal has 5 examples in the train part, fewer than the 6 asked for")


def test_index_files_of_unequal_classes(root: Path):
    (root / "tasks").mkdir()
    (root / "tasks" / "unequal.py").write_text(TASK)
    whole, plain = task_named("unequal_whole"), task_named("unequal")
    for size in (5, 6, 50):
        write_subset(whole, "train", size, draw_seed=0, force=False)
    write_subset(plain, "train", 5, draw_seed=0, force=False)
    assert load_split(whole, "train", 5).indices.tolist() == load_split(plain, "train", 5).indices.tolist()
    assert load_split(whole, "train", 6).labels.tolist() == [0, 1, 2] * 5 + [1, 2]
    every = load_split(whole, "train", 50)
    assert every.labels.tolist() == [0, 1, 2] * 5 + [1, 2] * 2 + [1] * 2
    assert every.indices[:17].tolist() == load_split(whole, "train", 6).indices.tolist()
