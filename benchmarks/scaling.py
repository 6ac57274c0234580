"""How the cost of the gradient kernel grows with training examples, test examples and parameters.

MNIST on the two-layer CNN, untrained (the arithmetic does not depend on the weights), each point in a process of its own. The
parameters grow by widening every layer. Writes benchmarks/results/scaling.json, scaling.csv and scaling.png.
"""

from dataclasses import dataclass

import common
import torch
from common import Outcome, contender, in_child, repeat
from torch import nn

NUM_TRAIN = (30, 100, 300, 1000, 3000, 5000)
NUM_TEST = (100, 300, 1000, 3000, 10000)
WIDTHS = (0.66, 1.0, 2.1, 3.75, 6.75)


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    num_train: int = 30
    """Training examples where something else grows."""
    num_test: int = 900
    """Test examples where something else grows."""
    largest: int = 10000
    """Leave out points with more examples than this."""


def widened_cnn(width: float) -> nn.Module:
    """The two-layer CNN for 28x28x1 with every layer's width multiplied."""
    first, second, hidden = (max(1, round(width * size)) for size in (32, 64, 128))
    convolutions = [nn.Conv2d(1, first, 3), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(first, second, 3), nn.GELU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(second * 25, hidden), nn.GELU(), nn.Linear(hidden, 10))


@contender
def kernel_at(num_train: int, num_test: int, width: float, device: str) -> Outcome:
    """Seconds of the kernel at one size; three runs where they are short."""
    from tda.data.downloads import mnist
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.system.devices import image_format, on_device, pick_device, prepare_process

    prepare_process()
    torch.manual_seed(0)
    target = pick_device(device)
    model, examples = on_device(widened_cnn(width), target).eval(), []
    for split, count in (("train", num_train), ("test", num_test)):
        pool = mnist(split)
        images = torch.from_numpy(pool.examples[:count]).permute(0, 3, 1, 2).float().div(255)
        examples.append(
            (images.to(target).contiguous(memory_format=image_format(target)), torch.from_numpy(pool.labels[:count]).to(target))
        )
    work = lambda: gradient_kernel(model, *examples)  # noqa: E731
    seconds, _ = repeat(work, 1, warm_up=0)
    if seconds[0] < 3:
        seconds, _ = repeat(work, 3, warm_up=0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {"num_train": num_train, "num_test": num_test, "parameters": parameters}
    if target.type == "cuda":
        facts["peak_gpu_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return Outcome(seconds, facts=facts)


def draw(rows: list[dict], path) -> None:
    """Seconds and peak memory against each of the three sizes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes_titles = {"num_train": "training examples", "num_test": "test examples", "parameters": "parameters"}
    figure, axes = plt.subplots(2, 3, figsize=(11, 5.5), sharey="row", constrained_layout=True)
    memory_key = "peak_gpu_mib" if "peak_gpu_mib" in rows[0] else "peak_mib"
    for column, (key, title) in enumerate(axes_titles.items()):
        points = sorted((row for row in rows if row["grows"] == key), key=lambda row: row[key])
        sizes = [row[key] for row in points]
        fixed = ", ".join(f"{points[0][other]:,} {name}" for other, name in axes_titles.items() if other != key)
        axes[0, column].loglog(sizes, [row["seconds"] for row in points], "o-")
        axes[0, column].loglog(sizes, [points[-1]["seconds"] * size / sizes[-1] for size in sizes], ":", color="grey")
        axes[0, column].set_title(fixed, fontsize=9)
        axes[1, column].semilogx(sizes, [row[memory_key] for row in points], "o-", color="tab:orange")
        axes[1, column].set_xlabel(title)
    axes[0, 0].set_ylabel("seconds (dotted: proportional)")
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel("peak memory of the process, MiB")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main(settings: Settings) -> str:
    """Measure every point, write JSON and CSV, draw the figure."""
    import pandas as pd

    points = [("num_train", count, settings.num_test, 1.0) for count in NUM_TRAIN if count <= settings.largest]
    points += [("num_test", settings.num_train, count, 1.0) for count in NUM_TEST if count <= settings.largest]
    points += [("parameters", settings.num_train, settings.num_test, width) for width in WIDTHS]
    rows = []
    for grows, num_train, num_test, width in points:
        measured = in_child("kernel_at", num_train=num_train, num_test=num_test, width=width, device=settings.device)
        rows.append({"grows": grows, **measured.row("gradient kernel")})
    path = common.write_result("scaling", settings.device, {"rows": rows})
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)
    draw(rows, path.with_suffix(".png"))
    return f"wrote {path}, {path.with_suffix('.csv').name} and {path.with_suffix('.png').name}"


if __name__ == "__main__":
    common.run(Settings, main)
