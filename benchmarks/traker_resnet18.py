"""The course project's size: TRAKer on a ResNet-18 at 224 pixels, 500 training images and 100 targets, against traker.

Needs benchmarks/requirements.txt. Random weights and random images, which are no matter to time and memory; batch
normalisation in inference mode; 2,048 dimensions; float32. This project runs the whole work; traker runs one batch of training
images and one of targets, and its seconds are scaled up. Writes benchmarks/results/traker_resnet18.json, with --own_task, by a
task of a user's own that goes through torch.func in both, traker_resnet18_own_task.json.
"""

import logging
import tempfile
from dataclasses import dataclass
from importlib import import_module

import common
import numpy as np
import torch
from common import Measured, Outcome, contender, in_child, repeat, rounded, with_ratios
from torch import Tensor, nn

PACKAGES = ("traker",)
OURS, THEIRS = "tda.trak", "trak"
SIDE, CLASSES = 224, 10


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    num_train: int = 500
    """Training images."""
    num_test: int = 100
    """Targets."""
    batch_size: int = 50
    """Images in this project's batches."""
    traker_batch_size: int = 25
    """Images in traker's batches, of which one of each kind runs; it holds the gradients of one, 45 MB an image."""
    dimension: int = 2048
    """Dimension of the projection."""
    repeats: int = 1
    """Timed runs of this project; before them one batch runs untimed, as it does for traker."""
    own_task: bool = False
    """Whether both take a task of a user's own instead of the named one."""


def _own_task(package: str) -> object:
    """The log-odds of the label as a user writes it, a subclass of the package's AbstractModelOutput."""
    base = import_module(f"{package}.modelout_functions").AbstractModelOutput

    class Margin(base):
        def __init__(self) -> None:
            """traker's base class asks for one."""

        def get_output(self, model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
            logits = torch.func.functional_call(model, (weights, buffers), image[None])[0]
            others = logits.masked_fill(torch.arange(CLASSES, device=logits.device) == label, -torch.inf)
            return logits.gather(0, label[None])[0] - others.logsumexp(dim=0)

        def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: tuple) -> Tensor:
            images, labels = batch
            logits = torch.func.functional_call(model, (weights, buffers), images)
            return (1 - logits.softmax(dim=1).gather(1, labels[:, None])).clone().detach()

    return Margin()


def _scores(
    package: str, own_task: bool, num_train: int, num_test: int, batch_size: int, dimension: int, device: str
) -> np.ndarray:
    """Scores (num_train, num_test) of one checkpoint by the TRAKer of a package."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=CLASSES).to(device).eval()
    generator = torch.Generator().manual_seed(1)
    batches = {}
    for part, count in (("train", num_train), ("test", num_test)):
        sizes = [len(rows) for rows in torch.arange(count).split(batch_size)]
        batches[part] = [
            (
                torch.randn(size, 3, SIDE, SIDE, generator=generator).to(device),
                torch.randint(CLASSES, (size,), generator=generator).to(device),
            )
            for size in sizes
        ]
    with tempfile.TemporaryDirectory() as folder:
        traker = import_module(package).TRAKer(
            model=model,
            task=_own_task(package) if own_task else "image_classification",
            train_set_size=num_train,
            save_dir=folder,
            device=device,
            proj_dim=dimension,
            use_half_precision=False,
            logging_level=logging.ERROR,
            # The scale of the ridge is no matter for time; traker's matrix is singular without one.
            lambda_reg=1.0,
        )
        traker.load_checkpoint(model.state_dict(), model_id=0)
        for batch in batches["train"]:
            traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        traker.start_scoring_checkpoint(exp_name="test", checkpoint=model.state_dict(), model_id=0, num_targets=num_test)
        for batch in batches["test"]:
            traker.score(batch=batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores(exp_name="test"))


@contender
def scores(
    package: str, own_task: bool, num_train: int, num_test: int, batch_size: int, dimension: int, device: str, repeats: int
) -> Outcome:
    """The work, after a small untimed one that draws nothing from it."""
    from tda.system.devices import prepare_process

    prepare_process()
    shared = {"dimension": dimension, "device": device}
    if package == OURS:
        _scores(package, own_task, 2, 2, 2, **shared)
    seconds, found = repeat(lambda: _scores(package, own_task, num_train, num_test, batch_size, **shared), repeats, warm_up=0)
    return Outcome(seconds, facts={"largest_score": rounded(float(np.abs(found).max()))})


def _measure(package: str, own_task: bool, settings: Settings) -> Measured:
    shared = {"device": settings.device, "dimension": settings.dimension, "own_task": own_task, "package": package}
    if package == OURS:
        sizes = {"num_train": settings.num_train, "num_test": settings.num_test, "batch_size": settings.batch_size}
        return in_child("scores", repeats=settings.repeats, **sizes, **shared)
    few = settings.traker_batch_size
    return in_child("scores", repeats=1, num_train=few, num_test=few, batch_size=few, **shared)


def main(settings: Settings) -> str:
    """Measure and write the result."""
    images, few = settings.num_train + settings.num_test, settings.traker_batch_size
    note = f"{few} x {few} of {settings.num_train} x {settings.num_test} images"
    ours, theirs = (_measure(package, settings.own_task, settings) for package in (OURS, THEIRS))
    rows = [ours.row("this project, TRAKer"), theirs.row("traker, TRAKer", images / (2 * few), note)]
    content = {"dimension": settings.dimension, "side": SIDE, "own_task": settings.own_task} | with_ratios(rows)
    name = "traker_resnet18_own_task" if settings.own_task else "traker_resnet18"
    return f"wrote {common.write_result(name, settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
