"""What the tests of the drop-in share: an image classifier's data, its rows by a TRAKer, and its gradients by autograd."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from trak_programs import DIMENSION, TARGETS, TRAIN, ImageOutput, image_data, image_model, states

from tda.trak import TRAKer

TRAINED, SCORED = image_data(TRAIN), image_data(TARGETS, seed=1)
PARAMETERS = sum(parameter.numel() for parameter in image_model().parameters())


def made(folder: Path, **options: object) -> TRAKer:
    given = {"task": "image_classification", "train_set_size": TRAIN, "device": "cpu", "proj_dim": DIMENSION} | options
    return TRAKer(image_model(), save_dir=folder, **given)


def rows(folder: Path, data: object = TRAINED, model_id: int = 0, **options: object) -> np.ndarray:
    """Rows of a checkpoint's training examples."""
    traker = made(folder, **options)
    traker.load_checkpoint(states()[0], model_id)
    traker.featurize(data[:], num_samples=TRAIN)
    return np.load(folder / str(model_id) / "gradients.npy")


def gradients(data: object = TRAINED) -> Tensor:
    """Gradients (n, p) of the checkpoint's outputs, by autograd."""
    model = image_model().eval()
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    outputs = [ImageOutput.get_output(model, weights, buffers, *example) for example in data]
    each = [torch.autograd.grad(output, list(weights.values())) for output in outputs]
    return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in each])
