"""The embedded base model: a small ViT, pre-trained once on those real images of a task's data set that the task does not use.

They are of other classes; of a task that keeps all classes they are the half of each that subsets would take last.

It stands in for a hub's model where no hub can be reached. It is kept in models/bases/<task>/ as save_pretrained writes a model
and its image processor, with pretraining.json beside them, and reused.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tda.data.index_files import drawing_order
from tda.data.kinds import normalised
from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.experiments.folders import embedded_base_folder
from tda.models.vit_base import silence_transformers
from tda.system.errors import UserError
from tda.system.files import locked, write_folder
from tda.system.random_streams import stream, stream_seed

SEED = 0
STEPS = 800
BATCH_SIZE = 64
IMAGE_SIZE = 28
PATCH_SIZE = 7
WIDTH = 192
DEPTH = 3
HEADS = 3
MLP_RATIO = 2
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
# Images are turned, scaled and shifted by up to this much: radians, share, share of half the image.
TURN, SCALE, SHIFT = 0.25, 0.2, 0.15


def embedded_base(task: Task) -> Path:
    """Folder of the task's base model, pre-trained if it is not there yet.

    Raises UserError if the data set has no images that it could be pre-trained on.
    """
    folder = embedded_base_folder(task.name)
    if not folder.exists():
        with locked(folder):
            if not folder.exists():
                write_folder(folder, lambda temporary: _pretrain(task, temporary))
    return folder


def new_network(channels: int, num_labels: int) -> nn.Module:
    """The untrained small ViT, drawn from torch's global generator."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=MLP_RATIO * WIDTH,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            num_channels=channels,
            num_labels=num_labels,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def _pretrain(task: Task, folder: Path) -> None:
    from transformers import ViTImageProcessor

    silence_transformers()
    (images, labels), (test_images, test_labels) = _pretraining_images(task)
    num_labels = int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(SEED, "pre-training initialisation"))
        network = new_network(task.kind.channels, num_labels)
    _fit(network, images, labels)
    with torch.no_grad():
        predicted = torch.cat([network(piece).logits.argmax(1) for piece in test_images.split(256)])
    network.save_pretrained(folder)
    half = [0.5] * task.kind.channels
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ViTImageProcessor(size=size, image_mean=half, image_std=half).save_pretrained(folder)
    report = {
        "task": task.name,
        "images": len(images),
        "classes": num_labels,
        "steps": STEPS,
        "test_accuracy": float((predicted == test_labels).double().mean()),
    }
    (folder / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")


def check_unseen(task: Task, train_indices: np.ndarray) -> None:
    """Raises UserError if the task's embedded base is pre-trained on any of these examples (n,) of the training part."""
    pool = task.load("train")
    if len(_other_classes(task, pool)) >= 2:
        return
    seen = np.isin(train_indices, np.concatenate([*_last_half(task, pool).values()]))
    if seen.any():
        raise UserError(
            f"task {task.name} keeps all classes of its data set, so that its embedded base is pre-trained on the half of each "
            f"class that the draws of seed 0 take last, and {int(seen.sum())} of these {len(seen)} training examples are among "
            f"them, such as {train_indices[seen][0]}; draw with --draw_seed 0 at most half of a class, or give --base"
        )


def _other_classes(task: Task, pool: Pool) -> list[int]:
    return sorted(set(pool.labels.tolist()) - set(task.classes))


def _last_half(task: Task, pool: Pool) -> dict[int, np.ndarray]:
    """Positions in the training part, by class, that subsets would take last."""
    orders = {label: drawing_order(pool, label) for label in task.classes}
    return {label: order[(len(order) + 1) // 2 :] for label, order in orders.items()}


def _pretraining_images(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (n, c, h, w) in [-1, 1] and labels (n,) to pre-train on, then others to measure the accuracy with.

    They are of the data set's classes that the task does not keep. Where it keeps all, they are the half of each class of the
    training part that subsets would take last, a tenth of them for the accuracy, so that no test example is looked at.
    """
    pool = task.load("train")
    if len(others := _other_classes(task, pool)) >= 2:
        for part in (pool, task.load("test")):
            yield _images(part, {label: np.flatnonzero(part.labels == label) for label in others})
        return
    halves = _last_half(task, pool)
    if min(map(len, halves.values())) < 2 or len(halves) < 2:
        raise UserError(
            f"task {task.name} keeps all classes of its data set and has fewer than two of them or fewer than four examples of "
            f"one, too few to pre-train the embedded base on; give --base a hub name or a folder that save_pretrained wrote"
        )
    tenth = {label: max(1, len(positions) // 10) for label, positions in halves.items()}
    yield _images(pool, {label: positions[tenth[label] :] for label, positions in halves.items()})
    yield _images(pool, {label: positions[: tenth[label]] for label, positions in halves.items()})


def _images(pool: Pool, positions: dict[int, np.ndarray]) -> tuple[Tensor, Tensor]:
    """The images at these positions, in the order of the data set, and labels that count the classes from 0."""
    together = np.concatenate([*positions.values()])
    order = np.argsort(together)
    labels = torch.from_numpy(np.repeat(np.arange(len(positions)), [len(each) for each in positions.values()])[order])
    examples = pool.examples_at(together[order].tolist())
    images = functional.interpolate(
        normalised(examples, (0.5,), (0.5,)), (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True
    )
    return images, labels


def _fit(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
    generator = stream(SEED, "pre-training batches")
    network.train()
    for _ in tqdm(range(STEPS), desc="pre-training the base", delay=2, leave=False):
        batch = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        logits = network(_moved(images[batch], generator)).logits
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels[batch]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (b, c, h, w) in [-1, 1] turned, scaled and shifted at random, on black."""
    turn, scale, right, down = (2 * torch.rand(4, len(images), generator=generator) - 1) * torch.tensor(
        [[TURN], [SCALE], [SHIFT], [SHIFT]]
    )
    rows = [torch.stack([turn.cos(), -turn.sin()], dim=1), torch.stack([turn.sin(), turn.cos()], dim=1)]
    linear = torch.stack(rows, dim=1) * (1 + scale)[:, None, None]
    maps = torch.cat([linear, torch.stack([right, down], dim=1)[:, :, None]], dim=2)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images + 1, grid, align_corners=False) - 1
