"""Projected gradients of a member's margins on disk, filled batch by batch: a killed run goes on where it was.

results/<experiment>/projected_gradients/<seed>/epoch_<k>/<kind>_<dimension>_<seed of the projection>_<precision>/ holds `train`
and `test`, folders of rows as TRAKer keeps them (tda/trak/store.py). A row counts for the example and the checkpoint that it
was made of, and for no other.
"""

import json

import numpy as np
import torch

from tda.data.splits import Split
from tda.gradients.gradient_kernel import examples_at_once
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.projections import Projection
from tda.system.files import locked, sha256
from tda.system.inputs import chosen
from tda.system.random_streams import stream_seed
from tda.training.evaluation import of_logits
from tda.training.members import Member
from tda.trak.arrays import read_array, write_array
from tda.trak.folder import forget_identity, read_identity, write_identity
from tda.trak.identities import example_identities
from tda.trak.ridge import factor
from tda.trak.store import ExampleRows, open_rows


def projection_of(member: Member, dimension: int, projection_seed: int, kind: str) -> Projection:
    """The member's own draw of a projection."""
    own_seed = stream_seed(member.seed, f"projection {projection_seed} after epoch {member.epoch}")
    return Projection(dimension, own_seed, kind)


def stored_rows(
    member: Member, train: Split, test: Split, projection: Projection, half_precision: bool
) -> tuple[ExampleRows, ExampleRows]:
    """Rows of the training examples, with Q, the surprise, and of the test examples; what is there already is kept.

    In the model's precision, or in float16. Raises UserError if a gradient is not finite, or too large for float16.
    """
    own = next(member.model.parameters()).dtype
    dtype = np.dtype(np.float16 if half_precision else np.float64 if own == torch.float64 else np.float32)
    name = f"{projection.kind}_{projection.dimension}_{projection.seed}_{dtype.name}"
    folder = member.study.results.projected_folder(member.seed_id, member.epoch) / name
    plan, found = plan_gradients(member.model, train.inputs), []
    quantity, origin = member.objective.margin, sha256(json.dumps([member.info["sha256"], name]).encode())
    for split, part, noun in ((train, "train", "training examples"), (test, "test", "test examples")):
        rows = open_rows(folder / part, noun, len(split), projection.dimension, dtype, with_out_to_loss=part == "train")
        rows.begin({"task": origin})
        surprise = of_logits(member.model, split, member.objective.surprise) if part == "train" else None
        size = examples_at_once(plan, split.inputs, plan.example_bytes(split.inputs, split.labels, quantity))
        for start in range(0, len(split), size):
            batch = slice(start, min(start + size, len(split)))
            inputs, labels = chosen(split.inputs, batch), split.labels[batch]
            named = {**inputs, "labels": labels} if isinstance(inputs, dict) else [inputs, labels]
            positions, identities = np.arange(batch.start, batch.stop), example_identities(named)
            if rows.lacks(positions, identities):
                gradients = projection.project(plan.block_rows(inputs, labels, quantity))
                rows.write(positions, identities, gradients, None if surprise is None else surprise[batch])
        rows.report_lost()
        found.append(rows)
    return tuple(found)


def stored_factor(rows: ExampleRows, device: torch.device, memory_budget: int | None) -> np.memmap:
    """The Cholesky factor (d, d) float64 that solves for targets, with the mean of the kernel's diagonal as its ridge.

    It is kept beside the rows, and made again where they are others. Raises UserError if the budget is too small.
    """
    path = rows.folder / "factor.npy"
    with locked(path):
        if read_identity(path) != rows.identity():
            forget_identity(path)
            found = factor(rows.gradients, None, device, memory_budget)
            write_array(path, found.shape, found.dtype, [(slice(None), found)])
            write_identity(path, rows.identity())
    return read_array(path)
