"""Random subsets and retraining on them: the draw, the slices, and what is left of a killed run."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXPERIMENT, Ensemble, assert_refused, contents, run_here, run_script, start_script, temporary_files

from tda.system.errors import UserError
from tda.training.retrainings import RetrainingStore
from tda.training.subset_draws import SubsetDraw, load_subset_outputs

SCRIPT = "run_subset_retraining.py"
TINY = {"model": "cnn", "task": "digits3", "num_per_class": 2, "num_subsets": 6, "num_retrainings": 2}


def arguments(**changed: object) -> list[object]:
    return [part for name, value in (TINY | changed).items() for part in (f"--{name}", value)]


def retrain(**changed: object) -> str:
    return run_here(SCRIPT, **TINY | changed)


def test_subsets_hold_their_share_and_are_drawn_uniformly():
    draw = SubsetDraw("evaluation", 0.3, 400, 1)
    masks = draw.masks(20)
    assert masks.shape == (400, 20) and (masks.sum(dim=1) == 6).all()
    # 400 draws of probability 0.3: the standard deviation of a share is 0.023.
    torch.testing.assert_close(masks.double().mean(dim=0), torch.full((20,), 0.3, dtype=torch.float64), rtol=0, atol=0.1)
    assert torch.equal(draw.masks(20, first_subset=390), masks[390:])
    assert not torch.equal(SubsetDraw("fitting", 0.3, 400, 1).masks(20), masks)


def test_every_retraining_has_a_seed_of_its_own():
    draws = [SubsetDraw(purpose, 0.5, 10, 3).retrainings(20) for purpose in ("evaluation", "fitting")]
    assert len({retraining.seed for draw in draws for retraining in draw}) == 60


def test_outputs_are_in_the_order_of_subsets_and_seeds(ensemble: Ensemble):
    assert "retrained 12 models, kept 0" in retrain()
    store, draw = RetrainingStore(ensemble.study), SubsetDraw("evaluation", 0.5, 6, 2)
    found = load_subset_outputs(store, draw)
    assert found.margins.shape == (2, 6, 150) and found.masks.shape == (6, 6)
    for number in range(2):
        alone = draw.retrainings(6)[number * 6 + 4]
        assert alone.counted.tolist() == found.masks[4].nonzero().flatten().tolist()
        np.testing.assert_array_equal(store.load([alone], "").margins[0].double(), found.margins[number, 4])
    torch.testing.assert_close(found.losses, torch.nn.functional.softplus(-found.margins), rtol=1e-3, atol=1e-5)


def test_slices_and_more_seeds_keep_what_is_there(ensemble: Ensemble):
    assert "retrained 6 models, kept 0" in retrain(first_subset=3)
    assert "retrained 6 models, kept 6" in retrain()
    assert "retrained 6 models, kept 12" in retrain(num_retrainings=3)
    assert "retrained 0 models, kept 18" in retrain(num_retrainings=3)


def test_killed_and_continued_gives_the_same_bytes(ensemble: Ensemble, tmp_path: Path):
    retrain(num_subsets=60)
    folder = EXPERIMENT.results.path
    expected = contents(folder, "retrainings/*")
    assert len(expected) == 120
    for path in (folder / "retrainings").iterdir():
        path.unlink()
    process = start_script(SCRIPT, *arguments(num_subsets=60), root=ensemble.root)
    while process.poll() is None and len(list((folder / "retrainings").glob("*.safetensors"))) < 5:
        time.sleep(0.002)
    assert process.poll() is None
    process.kill()
    process.communicate()
    done = run_script(SCRIPT, *arguments(num_subsets=60), root=ensemble.root)
    assert done.returncode == 0 and "retrained 120 models" not in done.stdout
    assert contents(folder, "retrainings/*") == expected and temporary_files(ensemble.root) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"purpose": "judging"}, "unknown purpose judging"),
        ({"alpha": 1.0}, "between 0 and 1, not 1.0"),
        ({"alpha": 0.01}, "no proper subset"),
        ({"num_retrainings": 0}, "at least 1 subset and 1 retraining"),
        ({"first_subset": 6}, "--first_subset 6 must lie in 0 to 5"),
        ({"model": "mlp2"}, "unknown model mlp2"),
    ],
)
def test_unusable_settings_are_refused(ensemble: Ensemble, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        retrain(**changed)


def test_missing_retrainings_are_named_with_their_command(ensemble: Ensemble):
    retrain(num_retrainings=1)
    store = RetrainingStore(ensemble.study)
    with pytest.raises(
        UserError, match="6 of 12 retrainings .*--purpose evaluation --alpha 0.5 --num_subsets 6 --num_retrainings 2"
    ):
        load_subset_outputs(store, SubsetDraw("evaluation", 0.5, 6, 2))


def test_script_refuses_in_one_sentence(ensemble: Ensemble):
    done = run_script(SCRIPT, *arguments(alpha=2), root=ensemble.root)
    assert_refused(done, "--alpha", "between 0 and 1")
