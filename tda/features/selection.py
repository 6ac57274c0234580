"""Which test examples are explained, and which training examples with each."""

import numpy as np
import torch
from torch import Tensor

from tda.features.influence_maps import Pairs
from tda.statistics.pair_statistics import mean_and_std, signal_to_noise
from tda.system.errors import UserError

RULES = ("misclassified", "reliable", "spread")


def chosen_tests(rule: str, count: int, indices: Tensor, wrong: np.ndarray, scores: np.ndarray) -> Tensor:
    """Positions (k,) of the test examples to explain.

    rule: "misclassified" (by most seeds; `wrong` (n_test,) bool), "reliable" (largest mean |mean| / std of its scores
    (seeds, n_train, n_test) over the seeds), "spread" (evenly over the split), or indices with commas, out of `indices`.
    Raises UserError for another rule, an index that is not there, or a rule that nothing meets.
    """
    positions = np.arange(len(indices))
    if rule == "misclassified":
        found = np.flatnonzero(wrong)[:count]
    elif rule == "reliable":
        ratio = signal_to_noise(*mean_and_std(scores)) if len(scores) > 1 else np.abs(scores[0])
        found = np.argsort(-np.minimum(ratio, 1e6).mean(axis=0), kind="stable")[:count]
    elif rule == "spread":
        found = np.unique(np.linspace(0, len(positions) - 1, min(count, len(positions))).round().astype(int))
    else:
        return _named(rule, indices)
    if len(found) == 0:
        raise UserError("no test example is misclassified by most seeds; choose another rule than misclassified")
    return torch.from_numpy(found)


def named_indices(rule: str) -> list[int]:
    """The indices that stand in place of a rule, none in place of a known one; raises UserError for what is neither."""
    try:
        return [] if rule in RULES else [int(word) for word in rule.split(",")]
    except ValueError as error:
        raise UserError(f"unknown rule {rule} for test examples; give {', '.join(RULES)}, or indices with commas") from error


def _named(rule: str, indices: Tensor) -> Tensor:
    wanted = named_indices(rule)
    known = {index: position for position, index in enumerate(indices.tolist())}
    for index in wanted:
        if index not in known:
            raise UserError(
                f"test example {index} is not in the test subset; its indices lie between {min(known)} and {max(known)}"
            )
    return torch.tensor(list(dict.fromkeys(known[index] for index in wanted)))


def most_helpful(mean: np.ndarray, tests: Tensor, count: int) -> Pairs:
    """Each test example with its `count` training examples of the largest mean score (n_train, n_test), largest first."""
    order = np.argsort(-mean[:, tests.numpy()], axis=0, kind="stable")[:count]
    return Pairs(torch.from_numpy(order.T.flatten().copy()), tests.repeat_interleave(len(order)))
