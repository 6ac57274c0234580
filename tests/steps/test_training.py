"""The training step: what is trained, kept, refused and recorded."""

import os
from pathlib import Path

import pytest
from conftest import EXPERIMENT, SEEDS, Ensemble, contents, run_here

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import read_manifest
from tda.system.errors import UserError
from tda.training.members import load_member
from tda.training.study import open_study


def train(**settings) -> str:
    return run_here("run_cnn_training.py", **{"num_per_class": 2} | settings)


def checkpoints(root: Path) -> dict[str, bytes]:
    return contents(root / "models", "**/*.safetensors")


def test_last_five_epochs_of_every_seed_are_kept(ensemble: Ensemble):
    assert [(seed_id, epoch) for seed_id in range(3) for epoch in range(1, 17) if
            EXPERIMENT.checkpoint_file(seed_id, epoch).exists()] == [
        (seed_id, epoch) for seed_id in range(3) for epoch in range(11, 16)]  # fmt: skip
    assert len(checkpoints(ensemble.root)) == 15


def test_finished_seeds_are_kept_and_a_missing_checkpoint_is_made_again(ensemble: Ensemble):
    before = checkpoints(ensemble.root)
    record = read_manifest(EXPERIMENT.results)["steps"]["training"]
    assert "trained 0 seeds, kept 3" in train()
    assert read_manifest(EXPERIMENT.results)["steps"]["training"] == record
    EXPERIMENT.checkpoint_file(1, 12).unlink()
    assert "trained 1 seeds, kept 2" in train()
    assert checkpoints(ensemble.root) == before


def test_one_seed_alone_is_the_same_as_among_others(ensemble: Ensemble):
    before = checkpoints(ensemble.root)
    for path in EXPERIMENT.seed_folder(2).iterdir():
        path.unlink()
    assert "trained 1 seeds, kept 0" in train(seed_id=2)
    assert checkpoints(ensemble.root) == before
    assert "training, seed 2" in read_manifest(EXPERIMENT.results)["steps"]


def test_damaged_checkpoint_is_refused_unless_forced(ensemble: Ensemble):
    before = checkpoints(ensemble.root)
    os.truncate(EXPERIMENT.checkpoint_file(0, 11), 1000)
    with pytest.raises(UserError, match="ckpt_epoch_11.safetensors is not a whole tensor file of this project; delete it"):
        train()
    assert "trained 1 seeds" in train(seed_id=0, force=True)
    assert checkpoints(ensemble.root) == before


def test_members_of_other_indices_are_refused_unless_forced(ensemble: Ensemble):
    write_subset(task_named("digits3"), "train", 2, draw_seed=3, force=True)
    with pytest.raises(UserError, match="was trained on other examples than the index file now names; .*--force"):
        train()
    assert "trained 3 seeds" in train(force=True)
    assert load_member(open_study(EXPERIMENT, "cpu"), 0, 15).seed == SEEDS[0]


def test_file_in_place_of_the_models_folder_is_refused(root: Path):
    (root / "models").write_text("")
    with pytest.raises(UserError, match="cannot write .*: a file stands where a folder is needed"):
        train(seed_id=0)


def test_three_layer_network_is_trained_by_the_same_step(root: Path):
    assert "trained 1 seeds" in train(model="cnn3", seed_id=0)
    member = load_member(open_study(Experiment("cnn3", "digits3", 2), "cpu"), 0, 15)
    assert sum(parameter.numel() for parameter in member.model.parameters()) == 619_786


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "resnet"}, "unknown model resnet"),
        ({"task": "digits4"}, "unknown task digits4"),
        ({"num_per_class": 5}, "train_5pc.txt is missing"),
        ({"seed_id": 17}, "seed_id 17 is out of range"),
        ({"device": "abacus"}, "device abacus cannot be used"),
    ],
)
def test_unusable_settings_are_refused_and_nothing_is_written(root: Path, settings: dict, words: str):
    with pytest.raises(UserError, match=words):
        train(**settings)
    assert not (root / "models").exists() and not (root / "results").exists()


def test_early_epochs_are_kept_besides_without_changing_the_others(ensemble: Ensemble):
    before = checkpoints(ensemble.root)
    assert "trained 3 seeds" in train(early_epochs=(2, 5))
    after = checkpoints(ensemble.root)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 6
    assert "trained 0 seeds" in train(early_epochs=(2, 5)) and "trained 0 seeds" in train()
    with pytest.raises(UserError, match="cannot keep the epochs .*: the training has epochs 1 to 15"):
        train(early_epochs=(16,))


def test_a_model_that_is_fine_tuned_is_not_trained_by_another_script(root: Path):
    with pytest.raises(UserError, match="model vit is fine-tuned from a base; train it with run_vit_finetuning.py"):
        train(model="vit", task="digits3")
