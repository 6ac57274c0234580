"""Pixelwise influence maps (Bacha and George, arXiv 2510.09135): how each pixel of a training image changes its attribution.

The map of a pair (training example i, test example j) is the derivative of its score with respect to the pixels of image i.
Positive = with more of this pixel's value the training example would help the test example more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import local

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.curvature import unflatten
from tda.devices import image_format
from tda.features.image_passes import Derivative, Derivatives, derivatives_of
from tda.gradient_kernel import gradient_rows
from tda.gradient_plan import plan_gradients
from tda.model_state import trained_parameters
from tda.quantities import Quantity, cross_entropy_loss
from tda.seeds import stream
from tda.subsets import Split
from tda.workers import in_order

SCORES = ("grad_cos", "grad_dot", "if")
"""Scores whose maps can be taken; `if` is Gauss-Newton influence with the curvature held fixed."""

_BYTES = 2**28
"""Most that the maps of a block of pairs, or the parameter gradients of the images of a pass, take, in bytes."""

_MOST_IMAGES = 32


@dataclass(frozen=True)
class Smoothing:
    """Average of the maps of noisy copies of the training image (Smilkov et al. 2017).

    copies: number of copies, 0 for the image itself; deviation: of the normal noise, as a share of the range of the image's
    values.
    """

    copies: int = 0
    deviation: float = 0.1


@dataclass(frozen=True)
class Pairs:
    """Which maps: positions (m,) int64 in the training split, and positions (m,) int64 in the test split."""

    train: Tensor
    test: Tensor

    def __len__(self) -> int:
        return len(self.train)


def gradients_of(model: nn.Module, examples: Split, quantity: Quantity = cross_entropy_loss) -> dict[str, Tensor]:
    """Parameter gradients of n examples, as influence_maps takes vectors: parameter name -> (n, *shape)."""
    plan = plan_gradients(model, examples.images[:1])
    return unflatten(gradient_rows(examples.images, examples.labels, quantity, plan).dense(), model)


def influence_maps(
    model: nn.Module,
    train: Split,
    vectors: dict[str, Tensor],
    pairs: Pairs,
    cosine: bool,
    smoothing: Smoothing = Smoothing(),
    quantity: Quantity = cross_entropy_loss,
    images_at_once: int | None = None,
) -> Tensor:
    """Maps (m, c, h, w) of the pairs.

    vectors, of n_test examples: what a training gradient is multiplied with to give the score, such as test gradients, or
    (curvature + damping)^-1 times them; cosine: divide by both norms (Grad-Cos). The vectors are held fixed.
    On a CPU several passes run beside each other, each with one thread; the result does not depend on how many.
    """
    maps = train.images.new_zeros(len(pairs), *train.images.shape[1:])
    at_once = images_at_once or _images_at_once(model)
    own = local()

    def worker() -> Derivatives:
        if not hasattr(own, "derivatives"):
            own.derivatives = derivatives_of(model, train.images[:1], train.labels[:1], quantity)
        return own.derivatives

    # Fused attention has no second derivative on a CPU.
    with sdpa_kernel(SDPBackend.MATH):
        for block in _blocks(pairs, smoothing.copies, train.images[0].numel()):
            squares = _by_image(worker, block, train, smoothing, at_once) if cosine else None
            _add_maps(maps, worker, block, vectors, train, smoothing, at_once, squares)
    return maps / max(1, smoothing.copies)


@dataclass(frozen=True)
class _Block:
    """Pairs that are taken together: pair, train, test, copy: for each noisy copy of each pair's image, (k,) int64."""

    pair: Tensor
    train: Tensor
    test: Tensor
    copy: Tensor

    def images(self, train: Split, rows: Tensor, smoothing: Smoothing) -> tuple[Tensor, Tensor]:
        """The images (r, c, h, w) of some rows, with their noise, and their labels."""
        chosen = self.train[rows]
        images = train.images[chosen]
        if smoothing.copies:
            drawn_for = zip(images, train.indices[chosen].tolist(), self.copy[rows].tolist(), strict=True)
            images = images + torch.stack([_noise(image, index, copy, smoothing) for image, index, copy in drawn_for])
        return images.contiguous(memory_format=image_format(images.device)), train.labels[chosen]


@dataclass(frozen=True)
class _Squares:
    """place (k,): of a block's rows among its distinct images; values: |gradient|^2 / 2 of those, derivatives: with respect to
    their pixels."""

    place: Tensor
    values: Tensor
    derivatives: Tensor


def _blocks(pairs: Pairs, copies: int, numel: int) -> Iterator[_Block]:
    """Pairs of equal test examples follow each other; a block's maps take _BYTES at most."""
    count = max(1, copies)
    order = torch.argsort(pairs.test.cpu(), stable=True)
    for some in order.split(max(1, _BYTES // (4 * numel * count))):
        pair = some.repeat_interleave(count)
        yield _Block(pair, pairs.train.cpu()[pair], pairs.test.cpu()[pair], torch.arange(count).repeat(len(some)))


def _images_at_once(model: nn.Module) -> int:
    trained = trained_parameters(model).values()
    return max(1, min(_MOST_IMAGES, _BYTES // sum(parameter.numel() * parameter.element_size() for parameter in trained)))


def _passes(work: Callable[[Tensor], Derivative], rows: list[Tensor], on_gpu: bool) -> Iterator[Derivative]:
    def numbered(number: int) -> Derivative:
        return work(rows[number])

    return map(numbered, range(len(rows))) if on_gpu else in_order(numbered, len(rows))


def _by_image(worker: Callable[[], Derivatives], block: _Block, train: Split, smoothing: Smoothing, at_once: int) -> _Squares:
    """What depends on a noisy image alone, each image of the block taken once."""
    keys = torch.stack([block.train, block.copy], dim=1)
    _, place = torch.unique(keys, dim=0, return_inverse=True)
    first = torch.full((int(place.max()) + 1,), len(place)).scatter_reduce(0, place, torch.arange(len(place)), "amin")

    def work(rows: Tensor) -> Derivative:
        return worker().half_squares(*block.images(train, rows, smoothing))

    values, derivatives = zip(*_passes(work, list(first.split(at_once)), train.images.is_cuda), strict=True)
    return _Squares(place, torch.cat(values), torch.cat(derivatives))


def _add_maps(
    maps: Tensor,
    worker: Callable[[], Derivatives],
    block: _Block,
    vectors: dict[str, Tensor],
    train: Split,
    smoothing: Smoothing,
    at_once: int,
    squares: _Squares | None,
) -> None:
    """Add the block's maps to those of its pairs; squares: for Grad-Cos, with the images' own gradients."""
    _, counts = torch.unique_consecutive(block.test, return_counts=True)
    rows = [part for own in torch.arange(len(block.test)).split(counts.tolist()) for part in own.split(at_once)]

    def work(chosen: Tensor) -> Derivative:
        vector = {name: part[int(block.test[chosen[0]])] for name, part in vectors.items()}
        product, derivative = worker().along(*block.images(train, chosen, smoothing), vector)
        if squares is None:
            return product, derivative
        return product, _of_cosine(product, derivative, squares, squares.place[chosen], _length(vector))

    for chosen, (_, found) in zip(rows, _passes(work, rows, train.images.is_cuda), strict=True):
        maps.index_add_(0, block.pair[chosen].to(maps.device), found.to(maps))


def _length(vector: dict[str, Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.cat([part.flatten() for part in vector.values()]))


def _of_cosine(product: Tensor, derivative: Tensor, squares: _Squares, place: Tensor, length: Tensor) -> Tensor:
    """Derivative (b, c, h, w) of <g, t> / (|g| |t|) from that of <g, t> and that of |g|^2 / 2; 0 where g or t is exactly 0."""
    own = (2 * squares.values[place]).sqrt()
    tiny = torch.finfo(own.dtype).tiny
    alive = (own > tiny) & (length > tiny)
    by_product = torch.where(alive, 1 / (own * length).clamp(min=tiny), 0)
    by_square = torch.where(alive, product * by_product / own.square().clamp(min=tiny), 0)
    shape = (-1, 1, 1, 1)
    return by_product.view(shape) * derivative - by_square.view(shape) * squares.derivatives[place]


def _noise(image: Tensor, index: int, copy: int, smoothing: Smoothing) -> Tensor:
    """Normal noise that depends on the training example and the number of the copy alone."""
    drawn = torch.randn(image.shape, generator=stream(index, f"smoothing copy {copy}"), dtype=torch.float64)
    return smoothing.deviation * (image.max() - image.min()) * drawn.to(image)
