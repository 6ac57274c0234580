"""Contrastive models of images with texts: projections above frozen towers, or towers and projections, are trained.

What frozen towers make of a pair is computed once and kept on disk (see frozen_outputs.py); a model then begins there.
"""

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from tda.data.task_entry import Task
from tda.models.contrastive import IMAGE_FEATURES, TEXT_FEATURES, Comparison, ContrastiveModel, Side, fingerprints
from tda.models.fine_tuning import PairTuning
from tda.models.frozen_outputs import frozen_outputs
from tda.models.pair_bases import SMALL, PairBase, new_clip, pair_base
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.inputs import Inputs, chosen, count_of, device_of
from tda.system.random_streams import stream

BATCH = 128
"""Pairs in a training step; where it is scored, a pair is compared with as many."""


def build(choices: PairTuning, task: Task) -> ContrastiveModel:
    """The towers that are trained, with projections and a scale of similarities.

    New ones are drawn from torch's global generator; those of a CLIP model begin as its own.
    """
    base = _base(choices, task)
    if base.is_new:
        network = new_clip(task)
        tower = copy.deepcopy(base.image)
        tower.network = network.vision_model
        text = copy.deepcopy(base.text)
        text.network = network.text_model
        sides = [Side(tower, network.visual_projection), Side(text, network.text_projection)]
        for side in sides:
            side.requires_grad_(True)
        tower.preparation.requires_grad_(False)
        return ContrastiveModel(*sides, Comparison(), task.kind.pixels).eval()
    projections = base.projections or tuple(_new_projection(width, choices.dimension) for width in base.widths)
    towers = (base.image, base.text) if choices.trained == "all" else (None, None)
    sides = []
    for tower, projection in zip(towers, projections, strict=True):
        side = Side(copy.deepcopy(tower), copy.deepcopy(projection)).requires_grad_(True)
        if hasattr(side.tower, "preparation"):
            side.tower.preparation.requires_grad_(False)
        sides.append(side)
    return ContrastiveModel(*sides, base.comparison(), task.kind.pixels).eval()


def plan(choices: PairTuning, task: Task) -> TrainingPlan:
    """AdamW in batches of BATCH, a tenth of warm-up, linear decay; the last two epochs are scored, of whole towers the last.

    Projections learn 1,500 pairs by heart in 20 epochs, hence few of them and a strong decay.
    """
    whole = choices.trained == "all"
    pretrained = whole and choices.base != SMALL
    return TrainingPlan(
        epochs=task.epochs,
        learning_rate=1e-5 if pretrained else 1e-3,
        weight_decay=0.1 if whole else 1.0,
        decoupled_decay=True,
        warm_up=0.1,
        linear_decay=True,
        batch_size=BATCH,
        num_kept_epochs=1 if whole else 2,
    )


def inputs(name: str, choices: PairTuning, task: Task, pairs: Inputs, device: torch.device) -> Inputs:
    """What the models take: pixels and tokens, or what frozen towers make of them, (n, width) each.

    name: of the family, below whose folder of models the latter are kept.
    """
    base = _base(choices, task)
    if choices.trained == "all":
        return pairs
    return dict(_features(name, base, choices, tuple(pairs.items()), task.kind.pixels, device))


def company(model: ContrastiveModel, train: Inputs) -> None:
    """Let a model meet its company: BATCH training pairs of different images, or all of fewer, the same for every seed.

    A pair is compared with one pair less: with all but itself or, if it is not of them, all but the last. Raises
    UserError where all pairs are of one image.
    """
    device, first = device_of(train), {}
    # Of pairs that share an image the first: a pair is not compared with its own image under another text.
    for places in torch.randperm(count_of(train), generator=stream(0, "company")).split(BATCH):
        for place, picture in zip(places.tolist(), model.picture_of(chosen(train, places.to(device))).tolist(), strict=True):
            first.setdefault(picture, place)
        if len(first) >= BATCH:
            break
    order = torch.tensor(list(first.values())[:BATCH], dtype=torch.int64)
    if len(order) < 2:
        raise UserError("a contrastive model needs 2 training pairs of different images or more; draw more by --num_per_class")
    model.meet({name: part.cpu() for name, part in chosen(train, order.to(device)).items()})


def origin(choices: PairTuning, task: Task) -> dict:
    """The choices, and the hash of the base's weights."""
    return choices.as_dict() | {"base_sha256": _base(choices, task).sha256}


def _base(choices: PairTuning, task: Task) -> PairBase:
    return pair_base(choices.base, task, choices.image_size)


def _new_projection(width: int, dimension: int) -> nn.Module:
    """Features are brought to mean 0 and variance 1 an example before a linear map."""
    layer = nn.Linear(width, dimension, bias=False)
    nn.init.normal_(layer.weight, std=width**-0.5)
    return nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), layer)


# Every step asks for the inputs of the same two splits several times; a tensor is its own key.
@lru_cache(maxsize=3)
def _features(
    name: str, base: PairBase, choices: PairTuning, pairs: tuple[tuple[str, Tensor], ...], pixels: str, device: torch.device
) -> tuple[tuple[str, Tensor], ...]:
    parts = dict(pairs)
    images = parts.pop(pixels)
    # Each image once, though several texts have it: in another batch a tower rounds otherwise, and it would seem another image.
    first: dict[int, int] = {}
    shown = torch.cat([fingerprints(part) for part in images.split(BATCH)]).tolist()
    for place, image in enumerate(shown):
        first.setdefault(image, place)
    row = {image: number for number, image in enumerate(first)}
    distinct, rows = {pixels: images[list(first.values())]}, [row[image] for image in shown]
    found = []
    for feature, tower, given in ((IMAGE_FEATURES, base.image, distinct), (TEXT_FEATURES, base.text, parts)):
        made_from = {"base_sha256": base.sha256, "tower": feature, "image_size": choices.image_size, "pooled": True}
        outputs = frozen_outputs(name, tower, given, made_from, device)
        found.append((feature, outputs[rows] if feature == IMAGE_FEATURES else outputs))
    return tuple(found)
