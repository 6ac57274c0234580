"""TRAKer told wrong things: one clear sentence each."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, bert, image_data, image_model, states

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.abstract_output import AbstractModelOutput
from tda.trak.identities import task_identity


def featurized(folder: Path, count: int = TRAIN) -> TRAKer:
    traker = TRAKer(image_model(), "image_classification", TRAIN, folder, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    traker.featurize(image_data(TRAIN)[:count], num_samples=count)
    return traker


def test_steps_in_the_wrong_order_are_one_sentence(tmp_path: Path):
    batch = image_data(TARGETS, seed=1)[:]
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    with pytest.raises(UserError, match="call load_checkpoint"):
        traker.featurize(batch, num_samples=TARGETS)
    with pytest.raises(UserError, match="no checkpoint was featurized"):
        traker.finalize_features()
    with pytest.raises(UserError, match="call start_scoring_checkpoint"):
        traker.score(batch, num_samples=TARGETS)
    with pytest.raises(UserError, match="model_id 0 was never featurized"):
        traker.start_scoring_checkpoint("few", states()[0], 0, TARGETS)
    traker = featurized(tmp_path)
    with pytest.raises(UserError, match="call start_scoring_checkpoint"):
        traker.score(batch, num_samples=TARGETS)
    traker.start_scoring_checkpoint("few", states()[0], 0, TARGETS)
    with pytest.raises(UserError, match=r"call finalize_features\(\) before scoring"):
        traker.score(batch, num_samples=TARGETS)
    with pytest.raises(UserError, match="call load_checkpoint"):
        traker.featurize(batch, num_samples=TARGETS)
    with pytest.raises(UserError, match=r"call finalize_features\(\) before scoring"):
        traker.finalize_scores("few")
    traker.finalize_features()
    with pytest.raises(UserError, match="holds 0 of the 6 targets announced"):
        traker.finalize_scores("few")
    with pytest.raises(UserError, match="other holds no targets"):
        traker.finalize_scores("other")
    with pytest.raises(UserError, match="no models .* scored the same number of targets"):
        traker.finalize_scores("few", allow_skip=True)


def test_another_number_of_examples_than_announced_is_one_sentence(tmp_path: Path):
    traker = featurized(tmp_path, 15)
    with pytest.raises(UserError, match="holds 15 of the 20 training examples announced"):
        traker.finalize_features()
    with pytest.raises(UserError, match="holds example 20, but 20 training examples were announced"):
        traker.featurize(image_data(6)[:], num_samples=6)
    with pytest.raises(UserError, match="the batch holds 6 examples, not 5"):
        traker.featurize(image_data(6)[:], inds=range(5))
    with pytest.raises(UserError, match="holds example -1"):
        traker.featurize(image_data(1)[:], inds=[-1])
    for both in ({}, {"inds": [0], "num_samples": 1}):
        with pytest.raises(UserError, match="give either inds"):
            traker.featurize(image_data(1)[:], **both)
    with pytest.raises(UserError, match="was begun with another train_set_size"):
        TRAKer(image_model(), "image_classification", 21, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.start_scoring_checkpoint("few", states()[0], 0, 5)
    with pytest.raises(UserError, match="was begun with 5 targets, not 6"):
        traker.start_scoring_checkpoint("few", states()[0], 0, 6)


def test_a_checkpoint_of_another_model_is_one_sentence(tmp_path: Path):
    traker = featurized(tmp_path)
    with pytest.raises(UserError, match="not one of this model") as refused:
        traker.load_checkpoint(bert().state_dict(), 1)
    assert "\n" not in str(refused.value)
    for load in (traker.load_checkpoint, lambda state, number: traker.start_scoring_checkpoint("few", state, number, 3)):
        with pytest.raises(UserError, match="model_id 0 .* belongs to another checkpoint"):
            load(states()[1], 0)
    with pytest.raises(UserError, match="was begun with another model"):
        TRAKer(bert(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)


class Undifferentiable(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(inputs.flatten(1))


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_a_model_without_per_example_gradients_is_one_sentence(task: object, tmp_path: Path):
    mixing = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten(), nn.Linear(32, 3))
    for number, (model, words) in enumerate([(mixing, "would mix the examples"), (Undifferentiable(36, 3), "no gradient")]):
        traker = TRAKer(model.double(), task, TRAIN, tmp_path / str(number), device="cpu", proj_dim=DIMENSION)
        traker.load_checkpoint(model.state_dict(), 0)
        with pytest.raises(UserError, match=words):
            traker.featurize(image_data(TRAIN)[:], num_samples=TRAIN)


def test_broken_numbers_are_one_sentence(tmp_path: Path):
    images, labels = image_data(TRAIN)[:]
    images[3] = torch.nan
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    with pytest.raises(UserError, match="example 3 of the training examples is NaN"):
        traker.featurize((images, labels), num_samples=TRAIN)


class Scaled(ImageOutput):
    """A task that has to be told something."""

    def __init__(self, scale: float) -> None:
        self.scale = scale


def test_bad_arguments_are_one_sentence(tmp_path: Path):
    bad = {
        "unknown task 'images'": {"task": "images"},
        r"Scaled cannot be made of its class alone \(.*'scale'\); give the task as an object": {"task": Scaled},
        "AbstractModelOutput cannot be made of its class alone": {"task": AbstractModelOutput},
        "train_set_size is 0": {"train_set_size": 0},
        "lambda_reg is -1": {"lambda_reg": -1},
        "saver cannot be replaced": {"saver": object()},
    }
    for words, arguments in bad.items():
        given = {"task": "image_classification", "train_set_size": TRAIN, "save_dir": tmp_path, "device": "cpu"} | arguments
        with pytest.raises(UserError, match=words):
            TRAKer(image_model(), **given)
    traker = featurized(tmp_path / "begun")
    with pytest.raises(UserError, match=r"model_ids is 0; give a list of them, such as \[0\]"):
        traker.finalize_features(model_ids=0)
    with pytest.raises(UserError, match="cannot name a folder"):
        traker.start_scoring_checkpoint("../few", states()[0], 0, 3)
    with pytest.raises(UserError, match="num_targets is 0"):
        traker.start_scoring_checkpoint("few", states()[0], 0, 0)
    with pytest.raises(UserError, match="takes batches"):
        traker.load_checkpoint(states()[1], 1)
        traker.featurize([*image_data(1)[:], torch.zeros(1)], num_samples=1)


def test_damaged_files_are_one_sentence(tmp_path: Path):
    featurized(tmp_path).finalize_features()
    gradients = tmp_path / "0" / "gradients.npy"
    gradients.write_bytes(gradients.read_bytes()[:-8])
    with pytest.raises(UserError, match="gradients.npy cannot be read as an array"):
        featurized(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(UserError, match="settings.json is damaged"):
        featurized(tmp_path)


def test_singular_kernel_is_one_sentence(tmp_path: Path):
    images, labels = image_data(TRAIN)[:]
    images[1], labels[1] = images[0], labels[0]
    traker = TRAKer(image_model(), "image_classification", 5, tmp_path, device="cpu", proj_dim=64, lambda_reg=0)
    traker.load_checkpoint(states()[0], 0)
    traker.featurize((images[:5], labels[:5]), num_samples=5)
    with pytest.raises(UserError, match="singular with lambda_reg=0"):
        traker.finalize_features()


def test_positions_that_are_no_list_and_sparse_inputs_are_one_sentence(tmp_path: Path):
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    images, labels = image_data(1)[:]
    with pytest.raises(UserError, match=r"inds is 3; give the positions of the batch's examples, such as \[3\]"):
        traker.featurize((images, labels), inds=3)
    with pytest.raises(UserError, match="part number 0 of a batch is sparse; give a dense tensor"):
        traker.featurize((images.to_sparse(), labels), num_samples=1)


class Odd(nn.Module):
    """A train() that gives nothing back, and a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.model = image_model()

    def train(self, mode: bool = True) -> None:
        super().train(mode)

    def get_extra_state(self) -> dict:
        return {"step": 3}

    def set_extra_state(self, state: dict) -> None:
        pass

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def test_a_model_with_a_train_and_a_state_of_its_own_is_taken(tmp_path: Path):
    model = Odd()
    traker = TRAKer(model, "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), 0)
    traker.featurize(image_data(TRAIN)[:], num_samples=TRAIN)
    traker.finalize_features()


def test_tasks_that_enclose_what_calls_itself_or_comes_later_have_an_identity():
    def factorial(count: int) -> int:
        return 1 if count < 2 else count * factorial(count - 1)

    class Enclosing(ImageOutput):
        def get_output(self, *given: object) -> Tensor:
            return super().get_output(*given) * factorial(3) * later

    before = task_identity(Enclosing())
    later = 2.0
    assert len(before) == 64 and task_identity(Enclosing()) != before
