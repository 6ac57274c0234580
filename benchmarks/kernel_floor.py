"""The gradient kernel against its floor, one forward and backward pass over the same examples, and against vmap.

On cnn_mnist3_10pc (30 x 900) and cnn_cifar10_50pc (500 x 500): inner products and norms of all pairs, the pass with the losses
summed (channels_last, batches of 64 and of 128, the faster counts), and per-example gradients by vmap(grad), in turns.
Then 5,000 x 10,000 examples of MNIST within 4 GiB, with a sample of the entries against float64 autograd.
Writes benchmarks/results/kernel_floor.json.
"""

from dataclasses import dataclass

import common
import torch
from common import Outcome, contender, in_child, interleaved, load, relative_error, repeat, rounded, spread
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    repeats: int = 15
    """Runs of each, in turns."""
    large: bool = True
    """Measure 5,000 x 10,000 examples of MNIST as well."""
    large_train: int = 5000
    """Training examples of the large measurement."""
    large_test: int = 10000
    """Test examples of the large measurement."""


def summed_pass(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """One forward and backward pass: the summed loss's gradient with respect to all parameters, batch after batch."""
    for batch, batch_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        model.zero_grad()
        functional.cross_entropy(model(batch), batch_labels, reduction="sum").backward()


def vmap_gradients(model: nn.Module, images: Tensor, labels: Tensor, block: int) -> Tensor:
    """Per-example gradients (n, p) by torch.func."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, values, (image[None],)), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    rows = []
    for batch, batch_labels in zip(images.split(block), labels.split(block), strict=True):
        rows.append(torch.cat([part.flatten(1) for part in gradients(parameters, batch, batch_labels).values()], dim=1))
    return torch.cat(rows)


def float64_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Per-example gradients (n, p) by plain autograd in float64, one example at a time."""
    import copy

    exact = copy.deepcopy(model).double().to(memory_format=torch.contiguous_format)
    parameters = list(exact.parameters())
    rows = []
    for image, label in zip(images.double(), labels, strict=True):
        loss = functional.cross_entropy(exact(image[None].contiguous()), label[None])
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


@contender
def floor_and_kernel(task: str, num_per_class: int, device: str, repeats: int, vmap_block: int) -> Outcome:
    """All contenders in one process, in turns."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.system.devices import prepare_process

    prepare_process()
    members, train, test = load(task, num_per_class, device, fast_layout=True)
    model = members[-1].model
    images, labels = torch.cat([train.inputs, test.inputs]), torch.cat([train.labels, test.labels])
    left, right = (train.inputs, train.labels), (test.inputs, test.labels)

    def by_vmap() -> Tensor:
        held = vmap_gradients(model, *left, vmap_block)
        blocks = zip(right[0].split(vmap_block), right[1].split(vmap_block), strict=True)
        # One block of test gradients at a time, as a user with bounded memory would.
        products = []
        for block in blocks:
            rows = vmap_gradients(model, *block, vmap_block)
            rows.norm(dim=1)
            products.append(held @ rows.T)
        return torch.cat(products, dim=1)

    works = {
        "gradient kernel": lambda: gradient_kernel(model, left, right),
        "forward and backward, batches of 64": lambda: summed_pass(model, images, labels, 64),
        "forward and backward, batches of 128": lambda: summed_pass(model, images, labels, 128),
        f"vmap(grad), blocks of {vmap_block}": by_vmap,
    }
    seconds = interleaved(works, repeats)
    kernel = gradient_kernel(model, left, right)
    exact_left, exact_right = (
        float64_gradients(model, train.inputs[:20], train.labels[:20]),
        float64_gradients(model, test.inputs[:50], test.labels[:50]),
    )
    exact = exact_left @ exact_right.T
    facts = {
        "all_seconds": seconds,
        "relative_error": relative_error(kernel.cross[:20, :50].cpu(), exact.cpu()),
        "relative_error_norms": relative_error(kernel.right_norms[:50].cpu(), exact_right.norm(dim=1).cpu()),
        "entries": exact.numel(),
    }
    return Outcome(seconds["gradient kernel"], facts=facts)


@contender
def large_kernel(device: str, num_train: int, num_test: int) -> Outcome:
    """All inner products of MNIST's first training and test examples on the two-layer CNN trained on ten classes' digits."""
    from tda.data.downloads import mnist
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.system.devices import image_format, pick_device, prepare_process

    prepare_process()
    target = pick_device(device)
    members, *_ = load("mnist3", 10, device, fast_layout=True)
    model, examples = members[-1].model, []
    for split, count in (("train", num_train), ("test", num_test)):
        pool = mnist(split)
        images = torch.from_numpy(pool.examples[:count]).permute(0, 3, 1, 2).float().div(255)
        labels = torch.from_numpy(pool.labels[:count])
        examples.append((images.to(target).contiguous(memory_format=image_format(target)), labels.to(target)))
    seconds, kernel = repeat(lambda: gradient_kernel(model, *examples), 1, warm_up=0)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(num_train, generator=generator)[:30]
    columns = torch.randperm(num_test, generator=generator)[:100]
    (images, labels), (test_images, test_labels) = examples
    exact = (
        float64_gradients(model, images[rows], labels[rows])
        @ float64_gradients(model, test_images[columns], test_labels[columns]).T
    )
    facts = {"relative_error": relative_error(kernel.cross[rows][:, columns].cpu(), exact.cpu()), "entries": exact.numel()}
    if target.type == "cuda":
        facts["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return Outcome(seconds, facts=facts)


def main(settings: Settings) -> str:
    """Measure and write the result."""
    content = {"experiments": {}}
    with common.temporary_root():
        for task, num_per_class, block in (("mnist3", 10, 64), ("cifar10", 50, 64)):
            shared = {"task": task, "num_per_class": num_per_class, "device": settings.device}
            in_child("trained_members", **shared)
            measured = in_child("floor_and_kernel", **shared, repeats=settings.repeats, vmap_block=block)
            seconds = measured.facts.pop("all_seconds")
            rows = [{"contender": name, **spread(runs)} for name, runs in seconds.items()]
            kernel, *floors = (row["seconds"] for row in rows[:3])
            content["experiments"][f"cnn_{task}_{num_per_class}pc"] = {
                "rows": rows,
                "ratio_to_floor": rounded(kernel / min(floors), 3),
                "vmap_over_kernel": rounded(rows[3]["seconds"] / kernel, 3),
                "agreement_with_float64": measured.facts,
            }
        if settings.large:
            large = in_child(
                "large_kernel", device=settings.device, num_train=settings.large_train, num_test=settings.large_test
            )
            content["large"] = large.row(f"gradient kernel, {settings.large_train:,} x {settings.large_test:,} of MNIST")
    return f"wrote {common.write_result('kernel_floor', settings.device, content)}"


if __name__ == "__main__":
    common.run(Settings, main)
