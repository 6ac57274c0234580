"""How near a model puts an image and its text, and how well it finds each by the other among all pairs of a split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.statistics.intervals import over_seeds
from tda.system.errors import UserError
from tda.training.ensembles import said_at_last
from tda.training.study import Study

RECALLED = (1, 5, 10)
"""Recall is the share of pairs whose own text, or image, is among so many first."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Nearness:
    """Of n pairs: cosine (..., n) float64 of the image's and the text's embedding; text_rank, image_rank (..., n) int64, from
    1: the place of the own text among the split's texts by similarity with the image, and of the own image by that with the
    text.
    """

    cosine: np.ndarray
    text_rank: np.ndarray
    image_rank: np.ndarray

    @property
    def reciprocal_rank(self) -> np.ndarray:
        """The mean of 1 / rank over both directions (..., n), in (0, 1]."""
        return (1 / self.text_rank + 1 / self.image_rank) / 2


def measured_nearness(model: nn.Module, split: Split) -> Tensor:
    """Cosine and both ranks of every pair among all of the split, (n, 3) float64; a tie counts as before the own one."""
    with torch.no_grad():
        blocks = [model.embeddings(inputs) for inputs, _ in split.batches(_AT_ONCE)]
    images, texts = (torch.cat(side).double() for side in zip(*blocks, strict=True))
    similarities = images @ texts.T
    own = similarities.diagonal()
    # The own one is not less than itself, so that it counts as the last of its equals.
    text_rank, image_rank = (similarities >= own[:, None]).sum(dim=1), (similarities >= own[None, :]).sum(dim=0)
    return torch.stack([own, text_rank.double(), image_rank.double()], dim=1)


def as_nearness(measured: Tensor) -> Nearness:
    """Measured numbers (..., n, 3)."""
    cosine, text_rank, image_rank = measured.double().unbind(dim=-1)
    return Nearness(cosine.numpy(), text_rank.long().numpy(), image_rank.long().numpy())


def nearness_of_members(study: Study, seed_ids: Sequence[int]) -> Nearness:
    """Of each seed's last checkpoint on the test subset, (S, n); raises UserError for a task without pairs."""
    if not study.task.objective.compares_examples:
        raise UserError(f"task {study.task.name} has no images with texts; choose one such as flickr8k")
    return as_nearness(said_at_last(study, seed_ids, study.test, measured_nearness))


def retrieval_rows(nearness: Nearness, seed_ids: Sequence[int]) -> list[dict]:
    """A row a seed, and their means with Student's interval over seeds as rows `mean`, `low` and `high`.

    text_recall_k: of the own text by an image; image_recall_k: of the own image by a text; chance_recall_k: of a ranking at
    random.
    """
    count = nearness.cosine.shape[-1]
    rows = []
    for place in range(len(seed_ids)):
        row = {"pairs": count, "cosine": nearness.cosine[place].mean()}
        for name, ranks in (("text", nearness.text_rank[place]), ("image", nearness.image_rank[place])):
            row |= {f"{name}_recall_{k}": (ranks <= k).mean() for k in RECALLED}
            row[f"{name}_median_rank"] = np.median(ranks)
        rows.append(row | {f"chance_recall_{k}": min(k, count) / count for k in RECALLED})
    estimates = {key: over_seeds(np.array([row[key] for row in rows])) for key in rows[0]}
    summary = [{key: getattr(each, end) for key, each in estimates.items()} for end in ("value", "low", "high")]
    names = [*map(str, seed_ids), "mean", "low", "high"]
    return [{"seed_id": name} | row for name, row in zip(names, [*rows, *summary], strict=True)]
