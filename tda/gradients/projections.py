"""Random projections of per-example gradients, from p parameters to a small dimension d, that keep inner products.

A projection P (d, p) is fixed by its seed, its kind and the parameters' names and shapes: the same for every example of a
model, whatever the batches. E[P^T P] = I, so that (P g) . (P h) estimates g . h without bias:

- "normal", "rademacher": independent N(0, 1 / d) entries, or +-1 / sqrt(d) (Johnson-Lindenstrauss; Achlioptas 2003). The
  variance is (|g|^2 |h|^2 + (g . h)^2) / d, for signs less 2 sum_i g_i^2 h_i^2 / d. The cost is 2 p d operations for each
  example. Drawn by blocks of parameters.
- "sparse": a single +-1 in each column (count sketch; Charikar et al. 2002), in the row h(i) + h'(o) modulo d with the sign
  s(i) s'(o) for the weight of input i and output o (TensorSketch; Pham and Pagh, KDD 2013). A linear layer's gradient
  sum_t a_t d_t^T is then projected without being formed, by products of the Fourier transforms of the sketches of a_t and
  d_t. The variance is near that of "normal", but larger where gradients are a few outer products, as of a linear layer with one
  position: for a single one with itself near 6 |g|^2 |h|^2 / d. At most it is 11 |g|^2 |h|^2 / d (Avron et al., NeurIPS 2014,
  Lemma 2).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tda.gradients.factored_rows import FactoredRows, formed_bias
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_rows import GradientRows, LayerRows
from tda.gradients.tied_rows import TiedRows
from tda.system.errors import UserError
from tda.system.random_streams import stream

KINDS = ("normal", "rademacher", "sparse")

_BLOCK_ENTRIES = 2**24
"""Entries of a dense projection that are drawn at once."""

_HELD_ENTRIES = 2**28
"""A dense projection of at most so many entries is kept once drawn; a larger one is drawn again for each block of examples."""

_SPECTRUM_ENTRIES = 2**22
"""Fourier coefficients that are held at once."""

_SPECTRUM_COST = 1.5
"""Time for one of the d entries of a position's transforms, in formed entries that are added up meanwhile."""


@dataclass(frozen=True)
class Sketch:
    """The sparse projection of one parameter (O, I): rows and signs by input (I,) and by output (O,)."""

    input_rows: Tensor
    input_signs: Tensor
    output_rows: Tensor
    output_signs: Tensor


@dataclass(frozen=True)
class Projection:
    """A random projection of a model's gradients; see the module for the kinds.

    dimension: d; seed: of the whole projection; kind: "normal", "rademacher" or "sparse". Raises UserError for another kind or
    a dimension below 1.
    """

    dimension: int
    seed: int = 0
    kind: str = "sparse"
    _held: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"unknown kind of projection {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.dimension < 1:
            raise UserError(f"a projection to the dimension {self.dimension} holds nothing; choose at least 1")

    def project(self, rows: GradientRows) -> Tensor:
        """Projected gradients (rows, d), in the rows' precision and on their device."""
        projected = rows.values.new_zeros(rows.count, self.dimension)
        for layer in rows.layers:
            if self.kind == "sparse":
                self._add_sketched(projected, layer)
            else:
                for name, gradient in layer.gradients().items():
                    self._add_dense(projected, name, gradient.reshape(len(gradient), -1))
        return projected

    def project_gradients(self, gradients: dict[str, Tensor]) -> Tensor:
        """Projected gradients (n, d) of gradients by parameter name, (n, *shape) each."""
        first = next(iter(gradients.values()))
        layer = FormedRows.of_gradients(gradients, len(first))
        return self.project(GradientRows([layer], first.new_zeros(len(first), 1), layer.shapes))

    def matrix(self, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """The projection itself, parameter name -> (d, numel) float64: for small models, and for tests of larger ones."""
        identities = {name: torch.eye(shape.numel(), dtype=torch.float64).reshape(-1, *shape) for name, shape in shapes.items()}
        return {name: self.project_gradients({name: identity}).T for name, identity in identities.items()}

    def _add_dense(self, projected: Tensor, name: str, gradient: Tensor) -> None:
        width = max(1, _BLOCK_ENTRIES // self.dimension)
        for number, block in enumerate(gradient.split(width, dim=1)):
            projected.addmm_(block, self._dense_block(name, number, block))

    def _dense_block(self, name: str, number: int, block: Tensor) -> Tensor:
        """Rows of P^T (block width, d) for one block of a parameter's entries."""
        key = (name, number, block.shape[1], block.device, block.dtype)
        if key in self._held:
            return self._held[key]
        generator = stream(self.seed, f"projection {self.kind} {name} {number}")
        shape = (block.shape[1], self.dimension)
        drawn = torch.randn(shape, generator=generator) if self.kind == "normal" else _random_signs(shape, generator)
        drawn = drawn.to(block.device, block.dtype).mul_(self.dimension**-0.5)
        if sum(held.numel() for held in self._held.values()) + drawn.numel() <= _HELD_ENTRIES:
            self._held[key] = drawn
        return drawn

    def _add_sketched(self, projected: Tensor, layer: LayerRows) -> None:
        if isinstance(layer, TiedRows):
            for part in (layer.tokens, layer.linear):
                self._add_sketched(projected, part)
            return
        if isinstance(layer, FactoredRows):
            if not layer.deltas.numel():
                return
            if layer.holds_tokens:
                self._add_tokens(projected, layer)
                return
            if self._spectrum_is_cheaper(layer):
                self._add_spectrum(projected, layer)
                return
            layer = layer.formed()
        for name, part in layer.parts.items():
            self._add_formed(projected, name, part, layer.shapes[name], layer.groups)

    def _add_formed(self, projected: Tensor, name: str, part: Tensor, shape: torch.Size, groups: int | None = None) -> None:
        sketch = self._sketch(name, shape, part)
        if groups is None or len(shape) < 2:
            rows = sketch.output_rows[:, None] + sketch.input_rows
            signs = sketch.output_signs[:, None] * sketch.input_signs
        else:
            order = _kernel_first(shape, part.device)
            rows = sketch.input_rows[order, None] + sketch.output_rows.reshape(groups, 1, -1)
            signs = sketch.input_signs[order, None] * sketch.output_signs.reshape(groups, 1, -1)
        projected.scatter_add_(1, (rows.flatten() % self.dimension).expand_as(part), (part * signs.flatten()).to(projected))

    def _spectrum_is_cheaper(self, layer: FactoredRows) -> bool:
        _, _, groups, positions, outputs = layer.deltas.shape
        width = layer.inputs.shape[-1]
        return positions * (_SPECTRUM_COST * self.dimension + width + outputs) < width * outputs

    def _add_spectrum(self, projected: Tensor, layer: FactoredRows) -> None:
        count, quantities, groups, positions, outputs = layer.deltas.shape
        sketch = self._sketch(layer.weight, layer.weight_shape, projected)
        if layer.turned:
            sketch = Sketch(sketch.output_rows, sketch.output_signs, sketch.input_rows, sketch.input_signs)
            order = slice(None)
        else:
            order = _kernel_first(layer.weight_shape, projected.device)
        input_rows, input_signs = sketch.input_rows[order], sketch.input_signs[order]
        output_rows, output_signs = (part.reshape(groups, 1, outputs) for part in (sketch.output_rows, sketch.output_signs))
        step = max(1, _SPECTRUM_ENTRIES // (quantities * groups * positions * self.dimension))
        for start in range(0, count, step):
            chunk = slice(start, start + step)
            inputs = self._counted(layer.inputs[chunk] * input_signs, input_rows)
            deltas = self._counted(layer.deltas[chunk] * output_signs, output_rows)
            products = torch.fft.rfft(inputs).unsqueeze(1) * torch.fft.rfft(deltas)
            found = torch.fft.irfft(products.sum(dim=(2, 3)), n=self.dimension)
            projected[start * quantities : (start + step) * quantities] += found.flatten(0, 1)
        if layer.bias is not None:
            self._add_formed(projected, layer.bias, formed_bias(layer.deltas), layer.bias_shape)

    def _counted(self, signed: Tensor, rows: Tensor) -> Tensor:
        counted = signed.new_zeros(*signed.shape[:-1], self.dimension)
        return counted.scatter_add_(-1, rows.expand_as(signed), signed)

    def _add_tokens(self, projected: Tensor, layer: FactoredRows) -> None:
        sketch = self._sketch(layer.weight, layer.weight_shape, projected)
        tokens = layer.inputs[:, None]
        rows = (sketch.output_rows[tokens][..., None] + sketch.input_rows) % self.dimension
        signed = layer.deltas * (sketch.output_signs[tokens][..., None] * sketch.input_signs)
        projected.scatter_add_(
            1, rows.expand_as(signed).flatten(2).flatten(0, 1), signed.flatten(2).flatten(0, 1).to(projected)
        )

    def _sketch(self, name: str, shape: torch.Size, like: Tensor) -> Sketch:
        key = (name, shape, like.device, like.dtype)
        if key not in self._held:
            outputs = shape[0] if shape else 1
            generator = stream(self.seed, f"projection sparse {name}")
            drawn = []
            for size in (math.prod(shape[1:]), outputs):
                drawn.append(torch.randint(self.dimension, (size,), generator=generator).to(like.device))
                drawn.append(_random_signs((size,), generator).to(like.device, like.dtype))
            self._held[key] = Sketch(*drawn)
        return self._held[key]


def _kernel_first(shape: torch.Size, device: torch.device) -> Tensor:
    """Positions of a weight's inputs (in, *kernel) in the order (*kernel, in), in which layers hold them."""
    return torch.arange(shape[1:].numel(), device=device).reshape(shape[1:]).movedim(0, -1).flatten()


def _random_signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """+-1 in float32 of any shape, eight from each random byte."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 56), dtype=torch.int64).random_(0, 2**56, generator=generator)
    # Only the low 56 bits are random; the eighth byte of each word is left out.
    octets = words.view(torch.uint8).reshape(-1, 8)[:, :7].reshape(-1, 1)
    bits = octets >> torch.arange(8, dtype=torch.uint8) & 1
    return bits.flatten()[:count].reshape(shape).float().mul_(2).sub_(1)
