"""Scores of several methods, all read and checked before the first of them is used."""

from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from tda.scores.score_files import Scores

_KEPT_BYTES = 2**30
"""How much of what was checked stays in memory; the rest is read once more when its turn comes."""


def check_all(names: Sequence[str], load: Callable[[str], Scores]) -> Iterator[Scores]:
    """Load the named methods' scores and return them in this order; `load` raises UserError for scores that cannot be used."""
    kept, room = {}, _KEPT_BYTES
    for name in tqdm(names, desc="reading scores", delay=2):
        scores = load(name)
        if scores.values.nbytes <= room:
            kept[name] = scores
            room -= scores.values.nbytes
    return (kept.pop(name) if name in kept else load(name) for name in names)
