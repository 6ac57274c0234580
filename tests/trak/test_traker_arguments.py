"""What a program hands to a TRAKer: numbers of any kind are numbers, and what cannot be used is refused in one sentence."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, image_data, image_model, scores_of, states

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.arguments import Positions, whole_number

TRAINED, SCORED = image_data(TRAIN), image_data(TARGETS, seed=1)


def test_whole_numbers_of_any_kind():
    for given in (3, np.int64(3), np.uint8(3), torch.tensor(3)):
        assert whole_number(given, "model_id") == 3 and type(whole_number(given, "model_id")) is int
    for given, words in (("a", "must be a whole number"), (3.0, "whole number"), (-1, "at least 0"), (True, "at least 0")):
        with pytest.raises(UserError, match=words):
            whole_number(given, "model_id")
    assert whole_number(-2, "model_id", least=-5) == -2


def test_positions_of_any_kind():
    positions = Positions(10, "targets")
    for given in (
        [1, 2],
        (1, 2),
        range(1, 3),
        np.array([[1], [2]]),
        torch.tensor([1, 2]),
        iter([1, 2]),
        np.array([1, 2], np.uint8),
    ):
        assert positions.of(2, given, None).tolist() == [1, 2]
    for size, expected in ((2, [0, 1]), (2, [0, 1]), (1, [0])):
        assert positions.of(size, None, size).tolist() == expected
    positions.advance(3)
    refused = {
        "holds 2 examples, not 3": ([1, 2, 3], None),
        "holds 2 examples, not 4": (None, 4),
        "a position twice": ([1, 1], None),
        "float64 values": ([0.0, 1.0], None),
        "bool values": ([True, False], None),
        "holds example 10": ([9, 10], None),
        "holds example -1": ([-1, 0], None),
    }
    for words, (inds, count) in refused.items():
        with pytest.raises(UserError, match=words):
            positions.of(2, inds, count)
    assert positions.of(2, None, 2).tolist() == [3, 4]


def test_a_refused_batch_can_be_given_again(tmp_path: Path):
    traker = TRAKer(image_model(), "image_classification", TRAIN, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(states()[0], 0)
    images, labels = TRAINED[:]
    with pytest.raises(UserError, match="is 3"):
        traker.featurize((images, labels.index_fill(0, torch.tensor([2]), 3)), num_samples=TRAIN)
    traker.featurize((images[:12], labels[:12]), num_samples=12)
    traker.featurize((images[12:], labels[12:]), num_samples=TRAIN - 12)
    traker.finalize_features()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(image_model(), TRAINED[:2][0])


MODELS = {
    "DataParallel": (lambda: nn.DataParallel(image_model()), "DataParallel"),
    "ScriptModule": (scripted, "Script"),
    "a function": (lambda: torch.relu, "torch.nn.Module"),
    "no parameters": (nn.Flatten, "no parameters"),
    "frozen": (lambda: image_model().requires_grad_(False), "no parameter is selected"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_without_gradients_of_their_own_are_one_sentence(case: str, tmp_path: Path):
    make, words = MODELS[case]
    with pytest.raises(UserError, match=words) as refused:
        TRAKer(make(), "image_classification", TRAIN, tmp_path, device="cpu")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_parameters_by_name(tmp_path: Path):
    model = image_model()
    with pytest.raises(UserError, match="give their names"):
        TRAKer(model, "image_classification", TRAIN, tmp_path, device="cpu", grad_wrt=model.parameters())
    with pytest.raises(UserError, match="no parameter named 'other'"):
        TRAKer(model, "image_classification", TRAIN, tmp_path, device="cpu", grad_wrt=["other"])
    names = (name for name, _ in model.named_parameters() if name.startswith("4"))
    assert TRAKer(model, "image_classification", TRAIN, tmp_path, device="cpu", grad_wrt=names).num_params_for_grad == 195


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_sixteen_bits_are_scored_in_float32(dtype: torch.dtype, task: object, tmp_path: Path):
    half = image_model().to(dtype)
    given = [torch.utils.data.TensorDataset(data.tensors[0].to(dtype), data.tensors[1]) for data in (TRAINED, SCORED)]
    options = {"task": task, "lambda_reg": 0.05}
    found = scores_of(half, [half.state_dict()], *given, save_dir=tmp_path / "half", **options)
    assert found.dtype == torch.float32 and next(half.parameters()).dtype == dtype
    exact = [torch.utils.data.TensorDataset(data.tensors[0].double(), data.tensors[1]) for data in given]
    double = image_model().to(dtype).double()
    expected = scores_of(double, [double.state_dict()], *exact, save_dir=tmp_path / "double", **options)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("task", ["image_classification", ImageOutput()])
def test_the_modes_a_program_is_in_change_nothing(task: object, tmp_path: Path):
    model = image_model().float()
    given = [torch.utils.data.TensorDataset(data.tensors[0].float(), data.tensors[1]) for data in (TRAINED, SCORED)]
    checkpoint = [model.state_dict()]
    expected = scores_of(model, checkpoint, *given, task=task, save_dir=tmp_path / "plain")
    modes = {"no_grad": torch.no_grad(), "inference": torch.inference_mode(), "autocast": torch.autocast("cpu", torch.bfloat16)}
    for name, mode in modes.items():
        with mode:
            found = scores_of(model, checkpoint, *given, task=task, save_dir=tmp_path / name)
        torch.testing.assert_close(found, expected)
