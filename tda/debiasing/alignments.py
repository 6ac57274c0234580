"""Group alignment of every training example by each method's scores, seed by seed, from the examples to select by alone."""

from collections.abc import Sequence

import numpy as np

from tda.debiasing.parts import GROUPS, WORST_GROUP, Named, SelectionPart
from tda.debiasing.rankings import AUTO, CLASSES, KNOWN, NOT_ANY, Alignment
from tda.scores.score_files import Scores
from tda.statistics.group_alignment import example_statistics, pseudo_groups
from tda.statistics.pair_statistics import seed_scores


def method_alignments(
    scores: Scores,
    part: SelectionPart,
    known: np.ndarray,
    kinds_of_groups: Sequence[str],
    matter: str,
    beta: float,
    named: Named | None,
    num_checkpoints: int,
) -> list[Alignment]:
    """An alignment for each kind of groups, or a single one where what matters has nothing to do with groups.

    A seed's score is its mean over the last `num_checkpoints` checkpoints, or over all where fewer are stored; every seed has
    the same weights of the examples. known: (m,) str, groups of the examples to select by, as the data set knows them.
    """
    sample = seed_scores(scores, min(num_checkpoints, len(scores.epochs)))[:, :, part.positions]
    kinds = kinds_of_groups if matter in (GROUPS, WORST_GROUP) else [NOT_ANY]
    found = []
    for kind in dict.fromkeys(kinds):
        groups = {
            KNOWN: lambda: known,
            NOT_ANY: lambda: known,
            CLASSES: lambda: part.labels,
            AUTO: lambda: pseudo_groups(sample.mean(axis=0), part.labels),
        }[kind]()
        of_seeds = sample @ part.weights(matter, groups, beta, named)
        found.append(Alignment(scores.method, kind, of_seeds, example_statistics(of_seeds)))
    return found
