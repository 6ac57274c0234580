"""What a step opens once: names looked up, seeds and epochs chosen, steps recorded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import EXPERIMENT, SEEDS, Ensemble

from tda.data.splits import load_split
from tda.data.tasks import task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import read_manifest
from tda.models.families import family_named, new_model
from tda.models.fine_tuning import AdapterTuning, LayerTuning
from tda.system.errors import UserError
from tda.training.study import open_study


def test_everything_that_the_name_stands_for(root: Path):
    study, digits = open_study(EXPERIMENT, "cpu"), task_named("digits3")
    assert study.task is digits and study.family is family_named("cnn") and study.seeds == SEEDS
    assert study.train.fingerprint == load_split(digits, "train", 2).fingerprint and len(study.train) == 6
    assert study.test.fingerprint == load_split(digits, "test").fingerprint and len(study.test) == 150
    assert study.hashes == {"train": study.train.fingerprint, "test": study.test.fingerprint}
    assert study.plan == study.family.plan(digits) and study.device == torch.device("cpu")
    assert study.results.path == root / "results" / "cnn_digits3_2pc"
    assert study.training_command == "run_cnn_training.py --model cnn --task digits3 --num_per_class 2"


def test_new_model_is_that_of_the_seed(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    for seed in (0, 7):
        expected = new_model(study.family, study.task, seed).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in study.new_model(seed).state_dict().items())


def test_seed_ids(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    assert [study.seed(seed_id) for seed_id in range(3)] == list(SEEDS)
    assert study.seed_ids() == study.seed_ids(None, 3) == [0, 1, 2]
    assert study.seed_ids(2) == [2] and study.seed_ids(num_seeds=2) == [0, 1]


@pytest.mark.parametrize("seed_id", [-1, 3, 10])
def test_seed_id_out_of_range_is_refused(root: Path, seed_id: int):
    study = open_study(EXPERIMENT, "cpu")
    for look_up in (study.seed, study.seed_ids):
        with pytest.raises(UserError, match=f"seed_id {seed_id} is out of range: .*random_seeds.pt holds seeds 0 to 2"):
            look_up(seed_id)


@pytest.mark.parametrize("num_seeds", [-1, 0, 4])
def test_number_of_seeds_out_of_range_is_refused(root: Path, num_seeds: int):
    with pytest.raises(UserError, match=f"--num_seeds {num_seeds} is out of range: random_seeds.pt holds 3 seeds"):
        open_study(EXPERIMENT, "cpu").seed_ids(num_seeds=num_seeds)


def test_last_epochs(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    assert study.last_epochs(5) == [11, 12, 13, 14, 15] and study.last_epochs(1) == [15]
    for number in (0, 6):
        with pytest.raises(UserError, match=f"--num_checkpoints {number} is out of range: 5 checkpoints a seed are kept"):
            study.last_epochs(number)


def test_inputs_are_what_the_family_takes(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    doubled = replace(study, family=replace(study.family, inputs=lambda task, inputs, device: 2 * inputs))
    found = doubled.inputs(study.train)
    assert torch.equal(found.inputs, 2 * study.train.inputs) and torch.equal(found.indices, study.train.indices)
    assert torch.equal(found.labels, study.train.labels)
    assert found.inputs.is_contiguous(memory_format=torch.channels_last)


def test_step_is_recorded_with_the_study_s_seeds_device_and_hashes(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    with study.step("training", {"epochs": 3}):
        pass
    with study.step("other", {}, {"train": "a"}) as record:
        record.keep_earlier = True
    steps = read_manifest(study.results)["steps"]
    entry = steps["training"]
    assert entry["arguments"] == {"epochs": 3} and entry["input_sha256"] == study.hashes and entry["seeds"] == list(SEEDS)
    assert entry["device"] == f"cpu, {torch.get_num_threads()} threads"
    assert steps["other"]["input_sha256"] == {"train": "a"}


def test_step_is_of_the_trained_seeds_or_of_those_that_are_asked_for(ensemble: Ensemble):
    study = replace(ensemble.study, seeds=(*SEEDS, 44))
    for kind, arguments in (("all", {}), ("two", {"num_seeds": 2}), ("five", {"num_seeds": 5}), ("one", {"seed_id": 1})):
        with study.step(kind, arguments):
            pass
    steps = read_manifest(study.results)["steps"]
    assert [steps[kind]["seeds"] for kind in ("all", "two", "five", "one")] == [[*SEEDS], [11, 22], [*SEEDS], [22]]


def test_a_part_of_the_seeds_is_a_share_beside_what_else_makes_it_one(root: Path):
    study = open_study(EXPERIMENT, "cpu")
    for seed_ids, share in (([0, 1], ""), ([0, 1], "worst group"), ([0, 2], "all"), ([2], "all"), ([0, 1, 2], "all")):
        with study.step("debiasing", {}, seed_ids=seed_ids, share=share):
            pass
    assert {name: entry["seeds"] for name, entry in read_manifest(study.results)["steps"].items()} == {
        "debiasing, seeds 0 to 1": [11, 22],
        "debiasing, seeds 0 to 1, worst group": [11, 22],
        "debiasing, seeds 0 and 2, all": [11, 33],
        "debiasing, seed 2, all": [33],
        "debiasing, all": [*SEEDS],
    }


@pytest.mark.parametrize(
    ("experiment", "device", "words"),
    [
        (Experiment("resnet", "digits3", 2), "cpu", "unknown model resnet"),
        (Experiment("cnn", "digits4", 2), "cpu", "unknown task digits4"),
        (Experiment("cnn", "digits3", 5), "cpu", "train_5pc.txt is missing"),
        (replace(EXPERIMENT, variant="gelu"), "cpu", "gelu does not fit --model cnn"),
        (EXPERIMENT, "abacus", "device abacus cannot be used"),
    ],
)
def test_what_does_not_exist_is_refused(root: Path, experiment: Experiment, device: str, words: str):
    with pytest.raises(UserError, match=words):
        open_study(experiment, device)


def test_variant_changes_plan_and_network_and_every_command(root: Path):
    plain = open_study(EXPERIMENT, "cpu")
    study = open_study(replace(EXPERIMENT, variant="inside1e-8_decay_pool"), "cpu")
    assert study.plan == replace(plain.plan, adam_epsilon_inside=1e-8, linear_decay=True)
    assert any(isinstance(module, torch.nn.AvgPool2d) for module in study.new_model().modules())
    assert study.training_command == f"{plain.training_command} --variant inside1e-8_decay_pool"
    assert study.results.path.name == "cnn_digits3_2pc_inside1e-8_decay_pool" and study.hashes == plain.hashes


def test_a_variant_changes_the_plan_of_the_choices(root: Path):
    """A new classifier is trained at 1e-3 and a network that is there already at 1e-4, so that each may have the other's."""
    experiment, whole = replace(EXPERIMENT, model="resnet18"), LayerTuning("random", "all", 32)
    rate = open_study(experiment, "cpu").plan.learning_rate
    changed = replace(experiment, variant=f"rate{rate:g}")
    assert open_study(changed, "cpu", whole).plan.learning_rate == rate
    with pytest.raises(UserError, match="is how --model resnet18 trains on digits3 anyway"):
        open_study(changed, "cpu")
    own = replace(experiment, variant=f"rate{open_study(experiment, 'cpu', whole).plan.learning_rate:g}")
    with pytest.raises(UserError, match="is how --model resnet18 trains on digits3 anyway"):
        open_study(own, "cpu", whole)


def test_choices_of_fine_tuning_are_for_families_that_have_them(root: Path):
    choices = AdapterTuning("nobody/nothing", rank=3)
    study = open_study(replace(EXPERIMENT, model="vit"), "cpu", choices)
    assert study.family.choices == choices and open_study(replace(EXPERIMENT, model="vit"), "cpu").family.choices is None
    with pytest.raises(UserError, match="cnn is not fine-tuned from a base; train it with run_cnn_training.py"):
        open_study(EXPERIMENT, "cpu", choices)
