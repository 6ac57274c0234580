"""TRAKer's rows of models that do to some examples what they do not do to others, and of models in 16 bits."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from single_examples import (
    Branching,
    EarlyExit,
    Mixture,
    MixtureClassifier,
    features,
    gradients_alone,
    labels_of,
    seeded,
)
from torch import nn

from tda.gradients.projections import Projection
from tda.gradients.quantities import margin
from tda.system.random_streams import stream_seed
from tda.trak import TRAKer

DIMENSION = 64


def rows_of(model: nn.Module, inputs: torch.Tensor, folder: Path, names: list[str] | None, batch: int) -> np.ndarray:
    """Projected gradients (n, DIMENSION) as TRAKer stores them, featurized in batches."""
    traker = TRAKer(
        model, "image_classification", len(inputs), save_dir=folder, device="cpu", proj_dim=DIMENSION, grad_wrt=names
    )
    traker.load_checkpoint(model.state_dict(), model_id=0)
    for part, labels in zip(inputs.split(batch), labels_of(inputs).split(batch), strict=True):
        traker.featurize(batch=(part, labels), num_samples=len(part))
    return np.array(np.load(folder / "0" / "gradients.npy"))


def projected(model: nn.Module, inputs: torch.Tensor, names: list[str]) -> torch.Tensor:
    matrices = Projection(DIMENSION, stream_seed(0, "model 0")).matrix(
        {name: model.get_parameter(name).shape for name in names}
    )
    gradients = gradients_alone(model, inputs, labels_of(inputs), margin, names)
    return gradients @ torch.cat([matrices[name] for name in names], dim=1).T


MODELS = {
    "branches": lambda: Branching(3),
    "experts": lambda: MixtureClassifier(Mixture()),
    "early exit": lambda: EarlyExit(True),
    "early exit of all": lambda: EarlyExit(False),
}


@pytest.mark.parametrize("batch", [1, 5, 18])
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_single_examples(name: str, batch: int, tmp_path: Path) -> None:
    model, inputs = seeded(MODELS[name]), features()
    inputs[:3, 0] = -1
    names = [name for name, _ in model.named_parameters()]
    expected = projected(model, inputs, names)
    np.testing.assert_allclose(rows_of(model, inputs, tmp_path, None, batch), expected, atol=1e-9 * float(expected.abs().max()))


def test_an_example_that_reaches_no_chosen_parameter_has_a_row_of_zeros(tmp_path: Path) -> None:
    model, inputs = seeded(EarlyExit, True), features()
    inputs[:3, 0] = -1
    names = ["second.weight", "shift"]
    rows = rows_of(model, inputs, tmp_path, names, 4)
    assert not rows[:3].any() and rows.any()
    np.testing.assert_allclose(rows, projected(model, inputs, names), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_16_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    model, inputs = seeded(EarlyExit, False).to(dtype), features().to(dtype)
    exact = copy.deepcopy(model).double()
    names = [name for name, _ in model.named_parameters()]
    rows, expected = rows_of(model, inputs, tmp_path, None, 7), projected(exact, inputs.double(), names)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-5 * float(expected.abs().max()))
