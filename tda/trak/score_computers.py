"""TRAK's linear algebra by the names of the package `trak`, on that of ridge.py."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tda.system.errors import UserError
from tda.trak import ridge
from tda.trak.arrays import Place


class AbstractScoreComputer(ABC):
    """A score computer of one's own: a subclass with the three methods below, given to a TRAKer as a class."""

    @abstractmethod
    def __init__(self, dtype: torch.dtype, device: str | torch.device, **kwargs: object) -> None:
        """dtype: of the rows."""
        self.dtype = dtype
        self.device = device

    @abstractmethod
    def get_xtx(self, grads: Tensor) -> Tensor:
        """X^T X (d, d) of rows X (n, d)."""

    @abstractmethod
    def get_x_xtx_inv(self, grads: Tensor, xtx: Tensor) -> Tensor:
        """The features X (X^T X + lambda)^-1 (n, d) of rows X (n, d)."""

    @abstractmethod
    def get_scores(self, features: Tensor, target_grads: Tensor, accumulator: Tensor) -> None:
        """Add features (n, d) times the transpose of target_grads (m, d) to the accumulator (n, m)."""


class BasicScoreComputer(AbstractScoreComputer):
    """This project's: in float64, and no factor of its own for each model."""

    def __init__(
        self,
        dtype: torch.dtype,
        device: str | torch.device,
        CUDA_MAX_DIM_SIZE: int = 20_000,
        logging_level: int = logging.INFO,
        lambda_reg: float | None = None,
    ) -> None:
        """lambda_reg: lambda, None for the mean squared norm of the rows; the other two have no effect."""
        super().__init__(dtype, device)
        self.lambda_reg = lambda_reg

    def get_xtx(self, grads: Tensor) -> Tensor:
        """X^T X (d, d) float64."""
        rows = grads.to(self.device, torch.float64)
        return rows.T @ rows

    def get_x_xtx_inv(self, grads: Tensor, xtx: Tensor) -> Tensor:
        """The features (n, d) in `dtype`; raises UserError if the matrix is singular."""
        return ridge.features_by_gram(grads.to(self.device, torch.float64), xtx.double(), self.lambda_reg).to(self.dtype)

    def get_scores(self, features: Tensor, target_grads: Tensor, accumulator: Tensor) -> None:
        """Adds to the accumulator, on its device."""
        accumulator += (features @ target_grads.to(features).T).to(accumulator)


class BasicSingleBlockScoreComputer(BasicScoreComputer):
    """The same; trak's holds everything at once."""


def computes_features(computer: AbstractScoreComputer) -> bool:
    """Whether features are this project's, and not a program's own."""
    return isinstance(computer, BasicScoreComputer) and type(computer).get_x_xtx_inv is BasicScoreComputer.get_x_xtx_inv


def computes_scores(computer: AbstractScoreComputer) -> bool:
    """Whether scores of features are this project's."""
    return isinstance(computer, BasicScoreComputer) and type(computer).get_scores is BasicScoreComputer.get_scores


def features_of_rows(
    computer: AbstractScoreComputer,
    gradients: np.ndarray,
    ridge_size: float | None,
    device: torch.device,
    memory_budget: int | None = None,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of the features (n, d), by this project's algebra or by a program's own score computer, all at once."""
    if computes_features(computer):
        yield from ridge.features(gradients, ridge_size, device, memory_budget)
        return
    rows = torch.from_numpy(np.array(gradients)).to(device)
    yield slice(None), computer.get_x_xtx_inv(rows, computer.get_xtx(rows)).detach().cpu().numpy()


def scores_of_models(
    computer: AbstractScoreComputer,
    models: list[ridge.ModelParts],
    dtype: np.dtype,
    device: torch.device,
    memory_budget: int | None = None,
) -> Iterator[tuple[Place, np.ndarray]]:
    """Blocks of the scores (n, m), likewise."""
    if computes_scores(computer):
        yield from ridge.scores(models, dtype, device, memory_budget)
        return
    accuracy = torch.from_numpy(np.empty(0, dtype)).dtype
    total = torch.zeros(len(models[0].rows), len(models[0].targets), dtype=accuracy)
    for model in models:
        left = torch.from_numpy(np.array(model.rows, dtype)).to(device)
        computer.get_scores(left, model.targets.block(slice(None), accuracy, device), accumulator=total)
    yield slice(None), total.numpy() * ridge.mean_out_to_loss(models)[:, None] / len(models)


def score_computer_of(
    given: object, dtype: torch.dtype, device: torch.device, logging_level: int, ridge_size: float | None
) -> AbstractScoreComputer:
    """The score computer that a TRAKer is given as a class, this project's by default; raises UserError if it is none."""
    given = BasicScoreComputer if given is None else given
    if not isinstance(given, type) or not all(hasattr(given, name) for name in ("get_xtx", "get_x_xtx_inv", "get_scores")):
        raise UserError(f"score_computer is {given!r}; give a subclass of AbstractScoreComputer, not an object of it")
    return given(dtype=dtype, device=device, logging_level=logging_level, lambda_reg=ridge_size)
