"""A TRAKer knows whose rows it holds: of other examples, another task or other parameters no old number is returned."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import contents
from torch import Tensor
from torch.utils.data import TensorDataset
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, image_data, image_model, scores_of, states

from tda.gradients.projections import Projection
from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.modelout_functions import ImageClassificationModelOutput

TRAINED, SCORED = image_data(TRAIN), image_data(TARGETS, seed=1)
OTHER_TRAINED, OTHER_SCORED = image_data(TRAIN, seed=2), image_data(TARGETS, seed=3)


def program(folder: Path, train: TensorDataset = TRAINED, targets: TensorDataset = SCORED, **options: object) -> Tensor:
    return scores_of(image_model(), states(), train, targets, save_dir=folder, **options)


def made(folder: Path, task: object = "image_classification", **options: object) -> TRAKer:
    return TRAKer(image_model(), task, TRAIN, folder, device="cpu", proj_dim=DIMENSION, **options)


def featurize(traker: TRAKer, data: TensorDataset, rows: slice = slice(None), model_id: int = 0) -> None:
    """One checkpoint's rows of part of a data set, batches of five."""
    traker.load_checkpoint(states()[model_id], model_id)
    for inds in np.arange(TRAIN)[rows].reshape(-1, 5):
        traker.featurize(data[inds], inds=inds)


def scored(traker: TRAKer, data: TensorDataset, model_id: int = 0, exp_name: str = "e") -> None:
    traker.start_scoring_checkpoint(exp_name, states()[model_id], model_id, TARGETS)
    traker.score(data[:], num_samples=TARGETS)


def rows_of(folder: Path) -> np.ndarray:
    return np.load(folder / "0" / "gradients.npy")


def test_other_targets_under_the_same_name_are_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    program(tmp_path / "shared")
    found = program(tmp_path / "shared", targets=OTHER_SCORED)
    torch.testing.assert_close(found, program(tmp_path / "apart", targets=OTHER_SCORED))
    assert "the examples are not those whose rows" in caplog.text


def test_other_training_data_is_featurized(tmp_path: Path):
    program(tmp_path / "shared")
    found = program(tmp_path / "shared", OTHER_TRAINED)
    torch.testing.assert_close(found, program(tmp_path / "apart", OTHER_TRAINED))


@pytest.mark.parametrize("part", [0, 1])
def test_one_example_with_another_picture_or_label_is_another(part: int, tmp_path: Path):
    changed = [tensor.clone() for tensor in TRAINED.tensors]
    changed[part][7] = 1 - changed[part][7]
    program(tmp_path / "shared")
    expected = program(tmp_path / "apart", TensorDataset(*changed))
    torch.testing.assert_close(program(tmp_path / "shared", TensorDataset(*changed)), expected)


def test_a_shuffling_loader_after_a_kill_leaves_every_example_once(tmp_path: Path):
    for seed, upto in ((1, 10), (2, TRAIN)):
        order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(seed))
        traker = made(tmp_path)
        traker.load_checkpoint(states()[0], 0)
        for start in range(0, upto, 5):
            traker.featurize(TRAINED[order[start : start + 5]], num_samples=5)
    traker.finalize_features()
    assert len(np.unique(rows_of(tmp_path).round(6), axis=0)) == TRAIN


def test_rows_of_before_do_not_complete_those_of_other_data(tmp_path: Path):
    featurize(made(tmp_path), TRAINED)
    featurize(made(tmp_path), OTHER_TRAINED, slice(10))
    with pytest.raises(UserError, match="holds 10 of the 20 training examples"):
        made(tmp_path).finalize_features()
    featurize(made(tmp_path), OTHER_TRAINED, slice(10, None))
    made(tmp_path).finalize_features()
    featurize(made(tmp_path / "apart"), OTHER_TRAINED)
    np.testing.assert_allclose(rows_of(tmp_path), rows_of(tmp_path / "apart"))


def test_rows_whose_examples_come_by_again_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    featurize(made(tmp_path), TRAINED)
    featurize(made(tmp_path), OTHER_TRAINED, slice(10))
    featurize(made(tmp_path), TRAINED, slice(10))
    monkeypatch.setattr(Projection, "project", lambda *_: pytest.fail("rows were computed again"))
    featurize(made(tmp_path), TRAINED)
    made(tmp_path).finalize_features()


def test_features_of_rows_of_before_are_refused_and_made_again(tmp_path: Path):
    traker = made(tmp_path)
    featurize(traker, TRAINED)
    traker.finalize_features()
    scored(traker, SCORED)
    featurize(traker, OTHER_TRAINED)
    for step in (lambda: scored(traker, SCORED), lambda: traker.finalize_scores("e")):
        with pytest.raises(UserError, match="not those that its features were made of"):
            step()
    traker.finalize_features()
    found = traker.finalize_scores("e")
    featurize(made(tmp_path / "apart"), OTHER_TRAINED)
    apart = made(tmp_path / "apart")
    apart.finalize_features()
    scored(apart, SCORED)
    np.testing.assert_allclose(found, apart.finalize_scores("e"))


def test_scores_of_a_model_of_before_are_refused(tmp_path: Path):
    program(tmp_path)
    traker = made(tmp_path)
    assert traker.scores_of_model("quickstart", 1).shape == (TRAIN, TARGETS)
    scored(traker, OTHER_SCORED, model_id=1, exp_name="quickstart")
    with pytest.raises(UserError, match="scores of other examples"):
        traker.scores_of_model("quickstart", 1)
    with pytest.raises(UserError, match="scores of other examples"):
        made(tmp_path, lambda_reg=0.5).finalize_features()
        made(tmp_path, lambda_reg=0.5).scores_of_model("quickstart", 0)


def test_deleted_gradients_come_back_with_other_data(tmp_path: Path):
    program(tmp_path / "shared")
    made(tmp_path / "shared").finalize_features(del_grads=True)
    found = program(tmp_path / "shared", OTHER_TRAINED)
    torch.testing.assert_close(found, program(tmp_path / "apart", OTHER_TRAINED))


def test_models_that_were_given_different_examples_are_refused(tmp_path: Path):
    traker = made(tmp_path)
    order = torch.arange(TRAIN - 1, -1, -1)
    for model_id, data in enumerate((TRAINED, TensorDataset(*TRAINED[order]))):
        featurize(traker, data, model_id=model_id)
    traker.finalize_features()
    for model_id in range(2):
        scored(traker, SCORED, model_id)
    with pytest.raises(UserError, match="models 0 and 1 were featurized with different training examples"):
        traker.finalize_scores("e")
    featurize(traker, TRAINED, model_id=1)
    traker.finalize_features()
    scored(traker, OTHER_SCORED, 1)
    with pytest.raises(UserError, match="models 0 and 1 were given different targets"):
        traker.finalize_scores("e")
    scored(traker, SCORED, 1)
    traker.finalize_scores("e")


def test_an_augmenting_loader_is_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    traker = made(tmp_path)
    images, labels = TRAINED[:]
    for model_id, data in enumerate((TRAINED, TensorDataset(images.flip(3), labels))):
        featurize(traker, data, model_id=model_id)
    traker.finalize_features()
    for model_id in range(2):
        scored(traker, SCORED, model_id)
    traker.finalize_scores("e")
    assert "unless the loader augments" in caplog.text


class Scaled(ImageOutput):
    """A task whose output a constant multiplies."""

    factor = 1.0

    def get_output(self, *arguments: object) -> Tensor:
        """The margin, multiplied."""
        return self.factor * super().get_output(*arguments)


def test_an_edited_task_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = program(tmp_path, task=Scaled(), lambda_reg=0.1)
    monkeypatch.setattr(Scaled, "factor", 3.0)
    torch.testing.assert_close(program(tmp_path, task=Scaled(), lambda_reg=0.9), first)
    monkeypatch.setattr(Scaled, "get_output", lambda self, *arguments: 2 * ImageOutput.get_output(*arguments))
    torch.testing.assert_close(program(tmp_path, task=Scaled(), lambda_reg=0.4), first)


@pytest.mark.parametrize("task", [ImageClassificationModelOutput, Scaled])
def test_a_task_that_says_the_same_is_the_same(task: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path, task=task())
    monkeypatch.setattr(Projection, "project", lambda *_: pytest.fail("rows were computed again"))
    program(tmp_path, task=task())


def test_another_temperature_gives_its_scores(tmp_path: Path):
    program(tmp_path / "shared")
    options = {"task": ImageClassificationModelOutput(temperature=4.0)}
    torch.testing.assert_close(program(tmp_path / "shared", **options), program(tmp_path / "apart", **options))


def test_targets_of_another_task_than_the_training_examples_are_refused(tmp_path: Path):
    traker = made(tmp_path)
    featurize(traker, TRAINED)
    traker.finalize_features()
    traker = made(tmp_path, ImageClassificationModelOutput(temperature=4.0))
    scored(traker, SCORED)
    with pytest.raises(UserError, match="featurized with another task"):
        traker.finalize_scores("e")


def test_other_parameters_are_refused(tmp_path: Path):
    program(tmp_path)
    frozen = image_model()
    frozen[0].requires_grad_(False)
    for model, options in ((frozen, {}), (image_model(), {"grad_wrt": ["4.weight"]})):
        with pytest.raises(UserError, match="begun with gradients of other parameters") as refused:
            scores_of(model, states(), TRAINED, SCORED, save_dir=tmp_path, **options)
        assert isinstance(refused.value, AssertionError)


def test_parameters_frozen_between_two_checkpoints_are_refused(tmp_path: Path):
    traker = made(tmp_path)
    featurize(traker, TRAINED)
    traker.model[0].requires_grad_(False)
    with pytest.raises(UserError, match="gradients of other parameters"):
        traker.load_checkpoint(states()[1], 1)


def test_a_model_of_other_layers_with_the_same_tensors_is_refused(tmp_path: Path):
    program(tmp_path)
    other = image_model()
    other[2] = torch.nn.ReLU()
    with pytest.raises(UserError, match="begun with another model"):
        scores_of(other, states(), TRAINED, SCORED, save_dir=tmp_path)


def test_experiments_whose_names_resemble_each_other_share_no_file(tmp_path: Path):
    names = (
        "test",
        "test_model_0",
        "0",
        "targets",
        "gradients.npy",
        "checkpoint.json",
        "features_mean_diagonal.npy",
        "test.json",
    )
    traker = made(tmp_path)
    featurize(traker, TRAINED)
    traker.finalize_features()
    before = contents(tmp_path, "*/*.npy", "*/*.json")
    for number, name in enumerate(names):
        targets = image_data(TARGETS, seed=10 + number)
        scored(traker, targets, exp_name=name)
        traker.finalize_scores(name)
    assert before.items() <= contents(tmp_path, "*/*.npy", "*/*.json").items()
    for number, name in enumerate(names):
        scored(traker, image_data(TARGETS, seed=10 + number), exp_name=f"again {number}")
        expected = traker.finalize_scores(f"again {number}")
        np.testing.assert_array_equal(np.load(tmp_path / "scores" / f"{name}.mmap"), expected)
        np.testing.assert_array_equal(traker.scores_of_model(name, 0), expected)
    assert set(traker.saver.experiments) >= set(names)


def test_the_same_weights_twice_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    traker = made(tmp_path)
    featurize(traker, TRAINED)
    traker.load_checkpoint(states()[1], 1)
    assert "same weights" not in caplog.text
    traker.load_checkpoint(states()[0], 2)
    assert "model_id 2 holds the same weights as 0" in caplog.text


def test_rows_that_float16_rounds_to_zero_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    images, labels = TRAINED[:]
    for folder, factor, is_said in (("usual", 1.0, False), ("small", 1e-9, True)):
        model = image_model()
        model[4].weight.data *= factor
        model[4].bias.requires_grad_(False)
        traker = TRAKer(model, Scaled(), TRAIN, tmp_path / folder, device="cpu", proj_dim=DIMENSION, use_half_precision=True)
        traker.task.factor = factor
        traker.load_checkpoint(model.state_dict(), 0)
        traker.featurize((images, labels), num_samples=TRAIN)
        assert ("too small for float16" in caplog.text) == is_said


def test_a_row_that_is_being_overwritten_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    featurize(made(tmp_path), TRAINED)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    traker = made(tmp_path)
    traker.load_checkpoint(states()[0], 0)
    with monkeypatch.context() as patched:
        patched.setattr("tda.trak.store.ExampleRows._mark", killed)
        with pytest.raises(KeyboardInterrupt):
            traker.featurize(OTHER_TRAINED[:5], inds=range(5))
    featurize(made(tmp_path), TRAINED, slice(5, None))
    with pytest.raises(UserError, match="holds 15 of the 20"):
        made(tmp_path).finalize_features()
    featurize(made(tmp_path), TRAINED)
    featurize(made(tmp_path / "apart"), TRAINED)
    np.testing.assert_array_equal(rows_of(tmp_path), rows_of(tmp_path / "apart"))


def test_a_deleted_or_damaged_origin_is_no_licence(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    featurize(made(tmp_path), TRAINED)
    before = rows_of(tmp_path)
    (tmp_path / "0" / "origin.json").unlink()
    featurize(made(tmp_path), TRAINED)
    assert "the task is not the one" in caplog.text
    np.testing.assert_array_equal(rows_of(tmp_path), before)
    (tmp_path / "0" / "origin.json").write_text("{")
    with pytest.raises(UserError, match="origin.json is damaged"):
        featurize(made(tmp_path), TRAINED)
    shutil.rmtree(tmp_path / "0")
    featurize(made(tmp_path), TRAINED)
