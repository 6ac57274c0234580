"""Influence maps of many pairs at once against a loop over pairs, on the two-layer CNN and CIFAR-10.

Each pair's map is of Grad-Cos, unsmoothed; the pairs are test examples with their most helpful training examples. The loop is
what a plain user writes: both gradients of a pair anew, and one double backward pass; it runs with torch's own settings, and
once more with this project's. It is sampled, and the maps of the sample are compared. Writes
benchmarks/results/feature_maps.json.
"""

from collections.abc import Callable
from dataclasses import dataclass

import common
import torch
from common import Outcome, contender, in_child, relative_error, repeat
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    num_per_class: int = 50
    """Training examples per class; the index file must have been drawn."""
    num_pairs: int = 1000
    """Pairs, ten training examples for each test example."""
    sampled_pairs: int = 50
    """Pairs that the loop takes; its time is scaled to all."""


def looped_maps(model: nn.Module, pairs: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]) -> Tensor:
    """Maps (m, c, h, w), one pair of (training image, label) and (test image, label) after another."""
    parameters = list(model.parameters())

    def gradient(image: Tensor, label: Tensor, create_graph: bool) -> Tensor:
        loss = functional.cross_entropy(model(image[None]), label[None])
        found = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return torch.cat([part.flatten() for part in found])

    maps = []
    for train, test in pairs:
        image = train[0].clone().requires_grad_()
        own, other = gradient(image, train[1], True), gradient(*test, False)
        maps.append(torch.autograd.grad(functional.cosine_similarity(own, other, dim=0), image)[0])
    return torch.stack(maps)


def _pairs(members: list, train, test, num_pairs: int):
    from tda.features.influence_maps import Pairs
    from tda.gradients.gradient_kernel import gradient_kernel

    count = num_pairs // 10
    kernel = gradient_kernel(members[-1].model, (train.inputs, train.labels), (test.inputs[:count], test.labels[:count]))
    best = (kernel.cross / kernel.left_norms[:, None]).argsort(dim=0, descending=True)[:10].cpu()
    return Pairs(best.T.flatten(), torch.arange(count).repeat_interleave(10))


@contender
def batched(num_per_class: int, num_pairs: int, device: str) -> Outcome:
    """This project's maps, test gradients included."""
    from tda.features.seed_maps import MapSettings, maps_of_model
    from tda.system.devices import prepare_process

    prepare_process()
    members, train, test = common.load("cifar10", num_per_class, device, fast_layout=True)
    pairs = _pairs(members, train, test, num_pairs)
    work: Callable[[], Tensor] = lambda: maps_of_model(members[-1].model, train, test, pairs, MapSettings(precise=False))  # noqa: E731
    seconds, maps = repeat(work, 3)
    return Outcome(seconds, {"maps": maps.cpu().numpy()})


@contender
def looped(num_per_class: int, num_pairs: int, sampled_pairs: int, prepared: bool, device: str) -> Outcome:
    """The loop over evenly spaced pairs."""
    from tda.system.devices import prepare_process

    if prepared:
        prepare_process()
    members, train, test = common.load("cifar10", num_per_class, device, fast_layout=False)
    pairs = _pairs(members, train, test, num_pairs)
    chosen = torch.linspace(0, num_pairs - 1, sampled_pairs).round().long()
    listed = [
        ((train.inputs[i], train.labels[i]), (test.inputs[j], test.labels[j]))
        for i, j in zip(pairs.train[chosen].tolist(), pairs.test[chosen].tolist(), strict=True)
    ]
    seconds, maps = repeat(lambda: looped_maps(members[-1].model, listed), 3)
    return Outcome(seconds, {"maps": maps.cpu().numpy(), "chosen": chosen.numpy()})


def main(settings: Settings) -> str:
    """Train a member, take the maps both ways, compare, write the JSON."""
    size = {"num_per_class": settings.num_per_class, "num_pairs": settings.num_pairs}
    with common.temporary_root():
        in_child("trained_members", task="cifar10", num_per_class=settings.num_per_class, device=settings.device)
        ours = in_child("batched", **size, device=settings.device)
        rows, scale = [], settings.num_pairs / settings.sampled_pairs
        for prepared, label in ((False, "loop over pairs"), (True, "loop over pairs, this project's process settings")):
            sampled = {"sampled_pairs": settings.sampled_pairs, "prepared": prepared}
            plain = in_child("looped", **size, **sampled, device=settings.device)
            error = relative_error(ours.arrays["maps"][plain.arrays["chosen"]], plain.arrays["maps"])
            if error > 1e-3:
                raise RuntimeError(f"the maps of the loop differ by {error}")
            rows.append(plain.row(label, scale, "sampled") | {"relative_difference": error})
        rows.append(ours.row("this project"))
    path = common.write_result("feature_maps", settings.device, {**size, "rows": rows})
    return f"wrote {path}"


if __name__ == "__main__":
    common.run(Settings, main)
