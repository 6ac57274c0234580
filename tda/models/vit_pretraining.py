"""The embedded base model: a small ViT, pre-trained once on those real images of a task's data set that the task does not use.

It stands in for a hub's model where no hub can be reached. It is kept in models/bases/<task>/ as save_pretrained writes a model
and its image processor, with pretraining.json beside them, and reused.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tda.data.kinds import normalised
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

    Raises UserError if the data set has no images of other classes.
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
    (images, labels), (test_images, test_labels) = (_other_images(task, split) for split in ("train", "test"))
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


def _other_images(task: Task, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, c, h, w) in [-1, 1] and labels (n,) of the data set's classes that the task does not keep."""
    pool = task.load(split)
    others = sorted(set(pool.labels.tolist()) - set(task.classes))
    if len(others) < 2:
        raise UserError(
            f"task {task.name} keeps all classes of its data set, so that no images are left to pre-train the embedded base "
            f"on; give --base a hub name or a folder that save_pretrained wrote"
        )
    chosen = [position for position, label in enumerate(pool.labels.tolist()) if label not in task.classes]
    labels = torch.tensor([others.index(label) for label in pool.labels[chosen].tolist()])
    images = functional.interpolate(
        normalised(pool.examples_at(chosen), (0.5,), (0.5,)), (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True
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
