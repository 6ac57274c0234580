"""s_test files: (curvature + damping)^-1 g_test of every test example, so that a new training example costs one product.

The score of a training example z is g_z^T s_test, positive = helpful (Koh and Liang 2017, section 2.2). A file holds one
float32 tensor "s_test" (n_test, p), p the trained parameters end to end, and is written block by block, so that it never has
to fit into memory.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from tda.curvature.inverses import Inverse, blocks_of_gradients, times_vectors
from tda.curvature.products import unflatten
from tda.data.splits import Split
from tda.gradients.objectives import Objective
from tda.models.model_state import trained_parameters
from tda.system.errors import UserError
from tda.system.tensor_files import checked_info, read_stream, write_stream
from tda.system.tensor_heads import DamagedFileError

MEND = "delete it and run the s_test script again"
_NAME = "s_test"
_ROWS_AT_ONCE = 64


def write_s_test(path: Path, model: nn.Module, objective: Objective, test: Split, inverse: Inverse, info: dict) -> float:
    """Solve for every test example and write the file atomically; returns the largest relative residual.

    info: what the file is of, "seed_id" and "epoch" among it. Raises UserError if a value is not finite or the disk cannot hold
    the file.
    """
    size = sum(parameter.numel() for parameter in trained_parameters(model).values())
    largest = 0.0

    def blocks() -> Iterator[Tensor]:
        nonlocal largest
        done = 0
        for rows in blocks_of_gradients(model, objective.loss, test):
            solved, residual = inverse(rows.dense())
            if not torch.isfinite(solved).all():
                raise UserError(
                    f"s_test of seed {info['seed_id']}, epoch {info['epoch']} is not finite for a test example among positions "
                    f"{done} to {done + len(solved) - 1}; raise the damping; nothing was written"
                )
            largest, done = max(largest, residual), done + len(solved)
            yield solved

    write_stream(path, _NAME, (len(test), size), blocks(), info)
    return largest


def kept_info(path: Path) -> dict:
    """What a kept file says of itself, once its whole content is checked; raises UserError if it is damaged."""
    try:
        return checked_info(path, _NAME)
    except DamagedFileError as error:
        raise UserError(f"{error}; {MEND}") from error


def score_new_examples(path: Path, model: nn.Module, objective: Objective, new: Split) -> Tensor:
    """Scores (n_new, n_test) float32 of training examples that the model never saw: one product with the kept vectors.

    Raises UserError if the file is damaged.
    """
    like = next(iter(trained_parameters(model).values()))
    try:
        scores = [
            times_vectors(model, objective.loss, new, unflatten(vectors.to(like), model)).T
            for vectors in read_stream(path, _NAME, _ROWS_AT_ONCE)
        ]
    except DamagedFileError as error:
        raise UserError(f"{error}; {MEND}") from error
    return torch.cat(scores, dim=1).float().cpu()
