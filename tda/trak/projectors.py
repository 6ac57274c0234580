"""Projectors by the names of the package `trak`, on the projections of tda.gradients.projections.

`project` gives P g with entries of P of mean 0 and variance 1, as trak's do: sqrt(proj_dim) times this project's projection,
which keeps inner products. A TRAKer that is given one of them takes the projection itself.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from enum import StrEnum

import torch
from torch import Tensor

from tda.gradients.gradient_rows import GradientRows
from tda.gradients.projections import KINDS, Projection
from tda.system.errors import UserError
from tda.system.random_streams import stream_seed
from tda.trak.refusals import AssertedError, UnknownNameError
from tda.trak.utils import vectorize


class ProjectionType(StrEnum):
    """Kinds of projection; "sparse" is this project's own."""

    normal = "normal"
    rademacher = "rademacher"
    sparse = "sparse"


class AbstractProjector(ABC):
    """A projector of one's own: a subclass with `project`."""

    @abstractmethod
    def __init__(
        self, grad_dim: int, proj_dim: int, seed: int, proj_type: str | ProjectionType, device: str | torch.device
    ) -> None:
        """grad_dim: numbers of a gradient, p; proj_dim: those of a projected one, 0 for p."""
        self.grad_dim = grad_dim
        self.proj_dim = proj_dim
        self.seed = seed
        self.proj_type = proj_type
        self.device = device

    @abstractmethod
    def project(self, grads: dict[str, Tensor] | Tensor, model_id: int) -> Tensor:
        """Projected gradients (n, proj_dim) of gradients (n, p), or by name (n, *shape); another projection for each model."""

    def free_memory(self) -> None:
        """Let go of what can be computed again, which by default is nothing."""
        return


class NoOpProjector(AbstractProjector):
    """Leaves gradients as they are, (n, p), parameters in the model's order."""

    def __init__(
        self,
        grad_dim: int = 0,
        proj_dim: int = 0,
        seed: int = 0,
        proj_type: str | ProjectionType = "na",
        device: str | torch.device = "cpu",
        *args: object,
        **kwargs: object,
    ) -> None:
        """No argument has an effect: proj_dim is 0, as it is of whatever keeps all numbers of a gradient."""
        super().__init__(grad_dim, 0, seed, proj_type, device)

    def project(self, grads: dict[str, Tensor] | Tensor, model_id: int) -> Tensor:
        """The gradients themselves."""
        return vectorize(grads) if isinstance(grads, dict) else grads


class BasicProjector(AbstractProjector):
    """A projection to proj_dim numbers, drawn by blocks of parameters."""

    def __init__(
        self,
        grad_dim: int,
        proj_dim: int,
        seed: int,
        proj_type: str | ProjectionType,
        device: str | torch.device,
        block_size: int = 100,
        dtype: torch.dtype = torch.float32,
        model_id: int = 0,
        *args: object,
        **kwargs: object,
    ) -> None:
        """dtype: of what project returns; block_size, model_id: without effect. Raises UserError for another proj_type."""
        kind = getattr(proj_type, "value", proj_type)
        if kind not in KINDS:
            raise UnknownNameError(f"unknown proj_type {proj_type!r}; choose one of {', '.join(KINDS)}")
        super().__init__(grad_dim, proj_dim, seed, proj_type, device)
        self.dtype = dtype
        self.projection = Projection(proj_dim, int(seed), kind)

    def project(self, grads: dict[str, Tensor] | Tensor, model_id: int) -> Tensor:
        """Projected gradients (n, proj_dim) in `dtype`, computed in float32 at least."""
        named = grads if isinstance(grads, dict) else {"": grads}
        named = {str(name): part.to(torch.promote_types(part.dtype, torch.float32)) for name, part in named.items()}
        width = sum(part[0].numel() for part in named.values())
        if width != self.grad_dim:
            raise AssertedError(f"the gradients have {width} numbers, but the projector was made for grad_dim={self.grad_dim}")
        projected = self.for_model(model_id).project_gradients(named)
        return projected.mul_(self.proj_dim**0.5).to(self.dtype)

    def for_model(self, model_id: int) -> Projection:
        """The projection of one model's gradients."""
        if getattr(self, "_drawn_for", None) != model_id:
            self._drawn_for, self._drawn = model_id, _seeded(self.projection, model_id)
        return self._drawn

    def free_memory(self) -> None:
        """Let go of the projection, which is drawn again when it is needed."""
        self._drawn_for = None


class BasicSingleBlockProjector(BasicProjector):
    """The same; trak's holds the whole matrix at once."""

    def __init__(
        self,
        grad_dim: int,
        proj_dim: int,
        seed: int,
        proj_type: str | ProjectionType,
        device: str | torch.device,
        dtype: torch.dtype = torch.float32,
        model_id: int = 0,
        *args: object,
        **kwargs: object,
    ) -> None:
        """As of BasicProjector."""
        super().__init__(grad_dim, proj_dim, seed, proj_type, device, dtype=dtype)


class CudaProjector(BasicProjector):
    """The same, on any device: there is no compiled extension to install."""

    def __init__(
        self,
        grad_dim: int,
        proj_dim: int,
        seed: int,
        proj_type: str | ProjectionType,
        device: str | torch.device,
        max_batch_size: int = 32,
        *args: object,
        dtype: torch.dtype = torch.float32,
        **kwargs: object,
    ) -> None:
        """max_batch_size: without effect, as has the attribute num_sms."""
        super().__init__(grad_dim, proj_dim, seed, proj_type, device, dtype=dtype)
        self.max_batch_size, self.num_sms = max_batch_size, 1


class ChunkedCudaProjector:
    """Gradients of consecutive parameters by a projector for each chunk of them, added up."""

    def __init__(
        self,
        projector_per_chunk: list[AbstractProjector],
        max_chunk_size: int,
        params_per_chunk: list[int],
        feat_bs: int,
        device: str | torch.device,
        dtype: torch.dtype,
    ) -> None:
        """params_per_chunk: numbers of a gradient in each chunk; max_chunk_size, feat_bs: without effect."""
        self.projector_per_chunk = projector_per_chunk
        self.params_per_chunk = params_per_chunk
        self.proj_dim = projector_per_chunk[0].proj_dim
        self.proj_type = projector_per_chunk[0].proj_type
        self.seed = projector_per_chunk[0].seed
        self.device, self.dtype = device, dtype

    def project(self, grads: dict[str, Tensor], model_id: int) -> Tensor:
        """Projected gradients (n, proj_dim); raises an AssertionError where the parameters do not fill the chunks."""
        flat = vectorize(grads)
        if flat.shape[1] != sum(self.params_per_chunk):
            raise AssertedError(f"the gradients have {flat.shape[1]} numbers, the chunks {sum(self.params_per_chunk)}")
        chunks = zip(flat.split([int(size) for size in self.params_per_chunk], dim=1), self.projector_per_chunk, strict=True)
        return sum(projector.project(chunk, model_id=model_id) for chunk, projector in chunks).to(self.dtype)

    def free_memory(self) -> None:
        """Let go of the projections."""
        for projector in self.projector_per_chunk:
            projector.free_memory()


class FormedProjection:
    """Rows by a projector that is none of this project's projections; it sees gradients formed."""

    def __init__(self, projector: AbstractProjector, model_id: int, dimension: int) -> None:
        """dimension: numbers of a row."""
        self.projector, self.model_id, self.dimension = projector, model_id, dimension

    def project(self, rows: GradientRows) -> Tensor:
        """Projected gradients (rows, dimension)."""
        return self.project_gradients(rows.gradients())

    def project_gradients(self, gradients: dict[str, Tensor]) -> Tensor:
        """The same of gradients by parameter name, (n, *shape) each; raises UserError where the projector gives others."""
        count = len(next(iter(gradients.values())))
        projected = self.projector.project(gradients, model_id=self.model_id)
        if not isinstance(projected, Tensor) or projected.shape != (count, self.dimension):
            shape = tuple(projected.shape) if isinstance(projected, Tensor) else type(projected).__name__
            raise UserError(
                f"project of {type(self.projector).__name__} gave {shape}, not {(count, self.dimension)}, for {count} "
                "gradients; its proj_dim must be what it gives"
            )
        return projected


RowProjection = Projection | FormedProjection


def projection_for(projector: AbstractProjector, model_id: int, dimension: int) -> RowProjection:
    """What makes one model's rows of gradients; dimension: numbers of a row."""
    return projector.for_model(model_id) if _is_ours(projector) else FormedProjection(projector, model_id, dimension)


def row_factor(projector: AbstractProjector) -> float:
    """By how much what `project` gives has to be divided to be one of the rows above."""
    return projector.proj_dim**0.5 if _is_ours(projector) else 1.0


def _is_ours(projector: AbstractProjector) -> bool:
    return isinstance(projector, BasicProjector) and type(projector).project is BasicProjector.project


def projector_of(
    given: object, proj_dim: int | None, seed: int, parameter_count: int, device: torch.device
) -> tuple[AbstractProjector, int]:
    """The projector that a TRAKer is given, a sparse one of proj_dim by default, and how many numbers its rows have.

    Raises UserError where it is none, or there is nothing to project to.
    """
    if given is None:
        if proj_dim is None or proj_dim < 1:
            raise UserError(f"proj_dim is {proj_dim}; give at least 1, or projector=NoOpProjector() to keep gradients whole")
        given = Projection(proj_dim, seed)
    if isinstance(given, Projection):
        projector = BasicProjector(parameter_count, given.dimension, given.seed, given.kind, device)
        projector.projection = given
        return projector, given.dimension
    if not callable(getattr(given, "project", None)):
        raise UserError(f"projector is {type(given).__name__}; give a Projection, or an object with a method project")
    return given, int(getattr(given, "proj_dim", 0)) or parameter_count


def _seeded(projection: Projection, model_id: int) -> Projection:
    return replace(projection, seed=stream_seed(projection.seed, f"model {model_id}"))
