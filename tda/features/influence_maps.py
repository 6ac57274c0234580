"""Pixelwise influence maps (Bacha and George, arXiv 2510.09135): how each pixel of a training image changes its attribution.

The map of a pair (training example i, test example j) is the derivative of its score with respect to the pixels of image i.
Positive = with more of this pixel's value the training example would help the test example more.
"""

from dataclasses import dataclass
from threading import local

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tda.data.splits import Split
from tda.features.directions import Directions, combined, concatenated, inner, rows_of, spread_out
from tda.features.image_passes import PassMaker, pass_maker
from tda.gradients.quantities import Quantity, cross_entropy_loss
from tda.models.model_state import trained_parameters
from tda.system.random_streams import stream
from tda.system.workers import in_order

SCORES = ("grad_cos", "grad_dot", "if")
"""Scores whose maps can be taken; `if` is Gauss-Newton influence with the curvature held fixed."""

_BYTES = 2**27
"""Parameter gradients of the training images of a pass, in bytes."""

_MOST_IMAGES = 32

_MOST_ROUNDS = 4
"""Pairs of one training image that share its pass: further ones would leave images in fewer pairs idle beside it."""


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


def gradients_of(model: nn.Module, examples: Split, quantity: Quantity = cross_entropy_loss) -> Directions:
    """Parameter gradients of n examples, as directions that influence_maps takes for its vectors."""
    with sdpa_kernel(SDPBackend.MATH):
        make = pass_maker(model, examples.inputs, examples.labels, quantity)
        blocks = ((images.contiguous(), labels) for images, labels in examples.batches(_MOST_IMAGES))
        return concatenated([make(*block).gradients for block in blocks])


def influence_maps(
    model: nn.Module,
    train: Split,
    vectors: Directions,
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
    jobs = _jobs(pairs, smoothing.copies, images_at_once or _images_at_once(model))
    maps = train.inputs.new_zeros(len(pairs), *train.inputs.shape[1:])
    own = local()

    def work(number: int) -> Tensor:
        if not hasattr(own, "make"):
            own.make = pass_maker(model, train.inputs, train.labels, quantity)
        return _maps_of(jobs[number], own.make, vectors, lengths, train, smoothing)

    lengths = inner(vectors, vectors).sqrt() if cosine else None
    on_gpu = train.device.type == "cuda"
    # Fused attention has no second derivative on a CPU.
    with sdpa_kernel(SDPBackend.MATH):
        results = map(work, range(len(jobs))) if on_gpu else in_order(work, len(jobs))
        for job, found in zip(jobs, results, strict=True):
            maps.index_add_(0, torch.cat([pair for _, pair, _ in job.rounds]).to(maps.device), found)
    return maps / max(1, smoothing.copies)


@dataclass(frozen=True)
class _Job:
    """Images of one pass, and the pairs that they are in.

    train, copy: position of each image (b,) in the training split and the number of its noisy copy; rounds: for each, the
    places in the pass (k,), the positions of the pairs (k,) and the test positions (k,), at most one pair an image.
    """

    train: Tensor
    copy: Tensor
    rounds: list[tuple[Tensor, Tensor, Tensor]]


def _jobs(pairs: Pairs, copies: int, images_at_once: int) -> list[_Job]:
    """Cut the work into passes; images that are in as many pairs come together, so that few are idle in a round."""
    images, place, counts = torch.unique(pairs.train.cpu(), return_inverse=True, return_counts=True)
    by_image = torch.argsort(place, stable=True).split(counts.tolist())
    pieces = [
        (image, copy, piece)
        for image, own in zip(images.tolist(), by_image, strict=True)
        for piece in own.split(_MOST_ROUNDS)
        for copy in range(max(1, copies))
    ]
    pieces.sort(key=lambda piece: -len(piece[2]))
    jobs = []
    for start in range(0, len(pieces), images_at_once):
        train, copy, own_pairs = zip(*pieces[start : start + images_at_once], strict=True)
        rounds = []
        for number in range(len(own_pairs[0])):
            places = [k for k, own in enumerate(own_pairs) if number < len(own)]
            chosen = torch.stack([own_pairs[k][number] for k in places])
            rounds.append((torch.tensor(places), chosen, pairs.test.cpu()[chosen]))
        jobs.append(_Job(torch.tensor(train), torch.tensor(copy), rounds))
    return jobs


def _images_at_once(model: nn.Module) -> int:
    trained = trained_parameters(model).values()
    return max(1, min(_MOST_IMAGES, _BYTES // sum(parameter.numel() * parameter.element_size() for parameter in trained)))


def _maps_of(
    job: _Job, make: PassMaker, vectors: Directions, lengths: Tensor | None, train: Split, smoothing: Smoothing
) -> Tensor:
    """Maps (k, c, h, w) of all rounds' pairs, one round after another; lengths: of the vectors, for Grad-Cos."""
    images = train.inputs[job.train].contiguous()
    if smoothing.copies:
        drawn_for = zip(images, train.indices[job.train.cpu()].tolist(), job.copy.tolist(), strict=True)
        images = images + torch.stack([_noise(image, index, copy, smoothing) for image, index, copy in drawn_for])
    found = make(images, train.labels[job.train])
    own_lengths = None if lengths is None else inner(found.gradients, found.gradients).sqrt()
    maps = []
    for places, _, tests in job.rounds:
        chosen = rows_of(vectors, tests)
        if lengths is not None:
            chosen = _cosine_directions(rows_of(found.gradients, places), own_lengths[places], chosen, lengths[tests])
        if len(places) < len(images):
            chosen = spread_out(chosen, places, len(images))
        maps.append(found.along(chosen)[places])
    return torch.cat(maps)


def _noise(image: Tensor, index: int, copy: int, smoothing: Smoothing) -> Tensor:
    """Normal noise that depends on the training example and the number of the copy alone."""
    drawn = torch.randn(image.shape, generator=stream(index, f"smoothing copy {copy}"), dtype=torch.float64)
    return smoothing.deviation * (image.max() - image.min()) * drawn.to(image)


def _cosine_directions(own: Directions, own_length: Tensor, other: Directions, other_length: Tensor) -> Directions:
    """(t/|t| - c g/|g|) / |g| for g in `own` and t in `other`, c their cosine; zero where a gradient is exactly zero."""
    tiny = torch.finfo(own_length.dtype).tiny
    alive = (own_length > tiny) & (other_length > tiny)
    by_other = torch.where(alive, 1 / (own_length * other_length).clamp(min=tiny), 0)
    by_own = -torch.where(alive, inner(own, other) * by_other / own_length.square().clamp(min=tiny), 0)
    return combined(other, by_other, own, by_own)
