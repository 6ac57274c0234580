"""Does a map tell the truth? One training step on images of which only the most important pixels are kept, or removed.

If the map of a training image says where its influence lies, a step on its k most important pixels, the others set to the mean,
lowers the test loss more than one on k random pixels (keep); and removing the k most important ones costs more of the whole
image's effect than removing k random ones (delete). Loss changes are L(before) - L(after), nats, positive = helpful.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tda.data.splits import Split
from tda.features.influence_maps import Pairs
from tda.statistics.intervals import over_seeds
from tda.system.random_streams import stream
from tda.training.evaluation import evaluate
from tda.training.many_models import train_many
from tda.training.members import Member
from tda.training.runs import Run

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
PROTOCOLS = ("keep", "delete")
_ORDERS = ("map", "random")


@dataclass(frozen=True)
class Importance:
    """What the pixels of the training images are ranked by.

    pairs: test example j with its n training images, one test example's after another's; ranks: of the pairs' pixels (m, h, w),
    most important = largest.
    """

    pairs: Pairs
    ranks: Tensor


def truth_table(members: Sequence[Member], train: Split, test: Split, importance: Importance) -> pd.DataFrame:
    """A row for each protocol, order of pixels and share: the test examples' mean loss change, with its interval over seeds.

    members: one a seed. The step is the member's own optimizer's, on the test example's training images as one batch.
    """
    found = [loss_changes(member, train, test, importance) for member in members]
    rows = []
    for key in found[0]:
        protocol, order, share = key
        estimate = over_seeds(np.array([float(changes[key].mean()) for changes in found]))
        row = {"protocol": protocol, "pixels": order, "share": share, "loss_change": estimate.value}
        rows.append(row | {"low": estimate.low, "high": estimate.high, "seeds": len(found)})
    return pd.DataFrame(rows)


def loss_changes(member: Member, train: Split, test: Split, importance: Importance) -> dict[tuple[str, str, float], Tensor]:
    """(protocol, order, share) -> each test example's loss change (n_test,), the test examples in the order of the pairs."""
    tests = torch.unique_consecutive(importance.pairs.test)
    few = test[tests]
    keys, images = [], []
    for key, changed in _changed_images(member, train, importance):
        keys.append(key)
        images.append(changed)
    labels = train.labels[importance.pairs.train].repeat(len(keys))
    indices = train.indices[importance.pairs.train].repeat(len(keys))
    altered = Split(torch.cat(images), labels, indices)
    batches = torch.arange(len(altered)).split(len(importance.pairs) // len(tests))
    changes = torch.empty(len(keys), len(tests))
    for number, before in enumerate(evaluate(member.model, member.objective, few).losses):
        one = few[number : number + 1]
        runs = [Run(member.state, [batch], [1]) for batch in batches[number :: len(tests)]]
        for key, (snapshot,) in train_many(member.model, member.plan, member.objective, runs, altered, evaluate_on=one):
            changes[key, number] = before - snapshot.evaluation.losses[0]
    return dict(zip(keys, changes, strict=True))


def _changed_images(member: Member, train: Split, importance: Importance) -> Iterator[tuple[tuple[str, str, float], Tensor]]:
    images = train.inputs[importance.pairs.train]
    mean = train.inputs.mean(dim=(0, 2, 3), keepdim=True)
    generator = stream(member.seed, "random pixels")
    random = torch.stack([torch.randperm(importance.ranks[0].numel(), generator=generator) for _ in images])
    order = {
        "map": importance.ranks.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1),
        "random": random,
    }
    for protocol in PROTOCOLS:
        for name in _ORDERS:
            for share in SHARES:
                first = (order[name] < round(share * order[name].shape[1])).view_as(importance.ranks)[:, None]
                kept = (first if protocol == "keep" else ~first).to(images.device)
                yield (protocol, name, share), torch.where(kept, images, mean)
