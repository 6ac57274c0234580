"""TRAK by the same program with this project's TRAKer and with traker's, on a ResNet-18 and on a member of cnn_mnist3.

Needs benchmarks/requirements.txt. ResNet-18 (11 million parameters, random weights, batch normalisation in inference mode) on
1,000 x 1,000 images of cifar10; traker runs one batch of training examples and one of targets, and its seconds are scaled up.
The member: agreement of both with each other and with the exact kernel, by Spearman's rank correlation for each test example.
On the CPU traker projects by its BasicProjector. Writes benchmarks/results/projected_trak.json.
"""

import logging
import tempfile
from dataclasses import dataclass

import common
import numpy as np
import torch
from common import Outcome, contender, in_child, load, repeat, rounded
from torch import Tensor, nn

TASK = "mnist3"
PACKAGES = ("traker",)
OURS, THEIRS = "tda.trak", "trak"


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    num_train: int = 1000
    """Training images of cifar10."""
    num_test: int = 1000
    """Test images of cifar10."""
    batch_size: int = 100
    """Images in this project's batches."""
    traker_batch_size: int = 50
    """Images in traker's batches: it draws its projection anew for each, and holds the gradients of one, 45 MB an image."""
    dimension: int = 2048
    """Dimension of every projection."""
    num_per_class: int = 50
    """Training images per class of the member of cnn_mnist3."""
    repeats: int = 3
    """Runs of this project, after one untimed run; traker runs once."""


def _program(
    package: str, model: nn.Module, train: tuple, test: tuple, batch_size: int, dimension: int, device: str, **options: object
) -> np.ndarray:
    """Scores of one checkpoint by the TRAKer of a package."""
    from importlib import import_module

    checkpoint = model.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        traker = import_module(package).TRAKer(
            model=model,
            task="image_classification",
            train_set_size=len(train[0]),
            save_dir=folder,
            device=device,
            proj_dim=dimension,
            use_half_precision=False,
            logging_level=logging.ERROR,
            **options,
        )
        traker.load_checkpoint(checkpoint, model_id=0)
        for batch in zip(*(part.split(batch_size) for part in train), strict=True):
            traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        traker.start_scoring_checkpoint(exp_name="test", checkpoint=checkpoint, model_id=0, num_targets=len(test[0]))
        for batch in zip(*(part.split(batch_size) for part in test), strict=True):
            traker.score(batch=batch, num_samples=len(batch[0]))
        return np.array(traker.finalize_scores(exp_name="test"))


@contender
def resnet18_scores(
    package: str, device: str, num_train: int, num_test: int, batch_size: int, dimension: int, repeats: int
) -> Outcome:
    """Scores of a ResNet-18 with random weights for the first images of cifar10."""
    from torchvision.models import resnet18

    from tda.data.downloads import cifar10
    from tda.system.devices import prepare_process

    prepare_process()
    torch.manual_seed(0)
    model = resnet18(num_classes=10).to(device).eval()

    def examples(split: str, count: int) -> tuple[Tensor, Tensor]:
        pool = cifar10(split)
        images = torch.from_numpy(pool.examples[:count]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()
        return images.to(device), torch.from_numpy(pool.labels[:count]).to(device)

    train, test = examples("train", num_train), examples("test", num_test)
    # The scale of the ridge is no matter for time; traker's matrix is singular without one.
    work = lambda: _program(package, model, train, test, batch_size, dimension, device, lambda_reg=1.0)  # noqa: E731
    seconds, _ = repeat(work, repeats, warm_up=1 if package == OURS else 0)
    return Outcome(seconds, facts={"parameters": sum(parameter.numel() for parameter in model.parameters())})


@contender
def member_scores(
    package: str, device: str, num_per_class: int, batch_size: int, dimension: int, repeats: int, seed: int, ridge: float
) -> Outcome:
    """Scores of the last member of seed 0; ridge: that of the exact kernel."""
    from tda.system.devices import prepare_process

    prepare_process()
    (*_, member), train, test = load(TASK, num_per_class, device, fast_layout=False)
    # traker divides its unscaled projections by the root of the number of parameters.
    parameters = sum(parameter.numel() for parameter in member.model.parameters())
    scale = 1.0 if package == OURS else dimension / parameters
    splits = [(split.inputs, split.labels) for split in (train, test)]
    options = {"lambda_reg": ridge * scale, "projector_seed": seed}
    work = lambda: _program(package, member.model, *splits, batch_size, dimension, device, **options)  # noqa: E731
    seconds, scores = repeat(work, repeats, warm_up=1 if package == OURS else 0)
    return Outcome(seconds, {"scores": scores})


@contender
def exact_scores(device: str, num_per_class: int, repeats: int) -> Outcome:
    """The same without projection, in the dual of the margin kernel; ridge: the mean of its diagonal."""
    from tda.gradients.gradient_kernel import gradient_kernel
    from tda.gradients.quantities import margin
    from tda.system.devices import prepare_process

    prepare_process()
    (*_, member), train, test = load(TASK, num_per_class, device, fast_layout=True)
    left, right = (train.inputs, train.labels), (test.inputs, test.labels)

    def work() -> tuple[Tensor, Tensor]:
        kernel = gradient_kernel(member.model, left, right, quantity=margin, left_gram=True)
        gram, cross = kernel.left_gram.double(), kernel.cross.double()
        ridge = gram.diagonal().mean()
        gram.diagonal().add_(ridge)
        return torch.linalg.solve(gram, cross), ridge

    seconds, (products, ridge) = repeat(work, repeats)
    with torch.no_grad():
        weights = torch.sigmoid(-margin(member.model(train.inputs), train.labels)).double()
    return Outcome(seconds, {"scores": (weights[:, None] * products).cpu()}, {"ridge": float(ridge)})


def rank_correlation(left: np.ndarray, right: np.ndarray) -> dict:
    """Spearman's correlation over the training examples (n, m): median and smallest over the test examples."""
    from scipy.stats import rankdata

    ranks = [rankdata(scores, axis=0) for scores in (left, right)]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    found = (centred[0] * centred[1]).sum(axis=0) / np.prod([np.linalg.norm(part, axis=0) for part in centred], axis=0)
    return {"median": rounded(float(np.median(found))), "min": rounded(float(found.min()))}


def compare_resnet18(settings: Settings) -> dict:
    """Time and memory."""
    shared = {"device": settings.device, "dimension": settings.dimension}
    sizes = {"num_train": settings.num_train, "num_test": settings.num_test, "batch_size": settings.batch_size}
    ours = in_child("resnet18_scores", package=OURS, repeats=settings.repeats, **sizes, **shared)
    batch = settings.traker_batch_size
    few = {"num_train": batch, "num_test": batch, "batch_size": batch}
    theirs = in_child("resnet18_scores", package=THEIRS, repeats=1, **few, **shared)
    scale = (settings.num_train + settings.num_test) / (2 * batch)
    note = f"{batch} x {batch} of {settings.num_train:,} x {settings.num_test:,} images"
    return _with_ratios([ours.row("this project, TRAKer"), theirs.row("traker, TRAKer", scale, note)])


def compare_member(settings: Settings) -> dict:
    """Time, memory and agreement on the member."""
    common_arguments = {"device": settings.device, "num_per_class": settings.num_per_class}
    exact = in_child("exact_scores", **common_arguments, repeats=settings.repeats)
    options = {"ridge": exact.facts["ridge"], "batch_size": 150, "dimension": settings.dimension, **common_arguments}
    found = {"exact": exact}
    for name, package in (("this project", OURS), ("traker", THEIRS)):
        for seed in (0, 1):
            repeats = settings.repeats if package == OURS else 1
            found[f"{name}, seed {seed}"] = in_child("member_scores", package=package, seed=seed, repeats=repeats, **options)
    names = list(found)
    agreement = [
        {"between": [left, right], **rank_correlation(found[left].arrays["scores"], found[right].arrays["scores"])}
        for number, left in enumerate(names)
        for right in names[number + 1 :]
    ]
    labels = {
        "this project, seed 0": "this project, TRAKer",
        "traker, seed 0": "traker, TRAKer",
        "exact": "this project, exact",
    }
    return _with_ratios([found[name].row(label) for name, label in labels.items()]) | {"agreement": agreement}


def _with_ratios(rows: list[dict]) -> dict:
    return {"rows": [row | {"ratio": rounded(row["seconds"] / rows[0]["seconds"], 3)} for row in rows]}


def main(settings: Settings) -> str:
    """Measure and write the result."""
    with common.temporary_root():
        content = {"dimension": settings.dimension, "resnet18": compare_resnet18(settings)}
        in_child("trained_members", task=TASK, num_per_class=settings.num_per_class, device=settings.device)
        content["member"] = compare_member(settings)
    return f"wrote {common.write_result('projected_trak', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
