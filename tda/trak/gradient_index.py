"""Exact search in stored projected gradients: which training examples help or harm a new example most.

A TRAKer's folder that is finalized holds all that an answer needs: the training examples' rows, the factor that solves for a
target (or their features), and Q. The new example's projected gradients come from the model (TRAKer.project); the training data
are not touched. The score of training example i for target z is the inner product of two vectors of all models' dimensions,

    w_i = mean Q_i (phi_1(z_i), phi_2(z_i), ...)   and   v(z) = ((Phi_1^T Phi_1 + lambda)^-1 phi_1(z), ...) / models,

so that search is that for the largest inner products, exact by a matrix product in blocks, or approximate (faiss_index.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.memory import release
from tda.trak.ridge import ModelParts, SolvedTargets, Targets, scores
from tda.trak.top_examples import Extremes, extremes_of_blocks


@dataclass(frozen=True)
class IndexedModel:
    """One checkpoint's rows (n, d) and Q (n,); factor (d, d) to solve for targets with, None where the rows are features.

    identity: hash of what the rows are of.
    """

    model_id: int
    rows: np.ndarray
    out_to_loss: np.ndarray
    factor: np.ndarray | None
    identity: str

    def targets(self, gradients: np.ndarray) -> Targets:
        """Targets (m, d) of which the rows' products are scores."""
        return Targets(gradients) if self.factor is None else SolvedTargets(gradients, self.factor)


class GradientIndex:
    """Exact search. Rows are read from disk, or from the system's cache of it; in_memory() holds them."""

    def __init__(self, models: list[IndexedModel], device: torch.device, memory_budget: int | None = None) -> None:
        """models: checkpoints of the same training examples; memory_budget: bytes that a search holds at once."""
        self.models, self.device, self.memory_budget = models, device, memory_budget
        self.weights = np.mean([model.out_to_loss for model in models], axis=0, dtype=np.float64)

    @property
    def count(self) -> int:
        """Number of training examples."""
        return len(self.weights)

    @property
    def dimension(self) -> int:
        """Of the vectors whose inner products scores are."""
        return sum(model.rows.shape[1] for model in self.models)

    def identity(self) -> str:
        """Hash of which examples and checkpoints the index is of."""
        return sha256(*(f"{model.model_id} {model.identity}".encode() for model in self.models))

    def in_memory(self) -> "GradientIndex":
        """The same with all rows in memory in float32, for many queries one after another."""
        models = []
        for model in self.models:
            rows = np.array(model.rows, np.float32)
            models.append(IndexedModel(model.model_id, rows, model.out_to_loss, model.factor, model.identity))
        return GradientIndex(models, self.device, self.memory_budget)

    def search(self, gradients: Mapping[int, Tensor], k: int = 10) -> Extremes:
        """The k most helpful and most harmful training examples of m new examples, and their exact scores.

        gradients: of each model_id the new examples' projected gradients (m, d), as TRAKer.project gives them. Raises
        UserError if a model's are missing, or of another shape.
        """
        parts = [
            ModelParts(model.rows, model.out_to_loss, model.targets(found))
            for model, found in zip(self.models, self._of_models(gradients), strict=True)
        ]
        blocks = scores(parts, np.dtype(np.float32), self.device, self.memory_budget)
        return extremes_of_blocks(blocks, min(k, len(parts[0].rows)), len(parts[0].targets))

    def queries(self, gradients: Mapping[int, Tensor]) -> np.ndarray:
        """The vectors v (m, dimension) float32 of new examples."""
        found = zip(self.models, self._of_models(gradients), strict=True)
        parts = [model.targets(given).block(slice(None), torch.float64, self.device) for model, given in found]
        return (torch.cat(parts, dim=1) / len(self.models)).float().cpu().numpy()

    def vectors(self, positions: slice | np.ndarray) -> np.ndarray:
        """The vectors w (b, dimension) float32 of training examples."""
        rows = np.concatenate([np.asarray(model.rows[positions], np.float32) for model in self.models], axis=1)
        return rows * self.weights[positions, None].astype(np.float32)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """All vectors in order, so many at a time."""
        for start in range(0, self.count, size):
            yield self.vectors(slice(start, start + size))
            for model in self.models:
                release(model.rows)

    def _of_models(self, gradients: Mapping[int, Tensor]) -> list[np.ndarray]:
        found = []
        for model in self.models:
            if model.model_id not in gradients:
                raise UserError(f"the new examples' gradients of model {model.model_id} are missing; give those of every model")
            given = gradients[model.model_id].detach().cpu().numpy()
            if given.ndim != 2 or given.shape[1] != model.rows.shape[1]:
                raise UserError(
                    f"the gradients of model {model.model_id} are {given.shape}, not (examples, {model.rows.shape[1]}); give "
                    "what TRAKer.project returns"
                )
            found.append(given)
        if len({len(given) for given in found}) > 1:
            raise UserError("the models' gradients are of different numbers of new examples; give those of the same ones")
        return found
