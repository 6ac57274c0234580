"""Facts of WebNLG (Gardent et al. 2017) that several people stated, one statement of each held out to ask for it.

Nothing that the development part of WebNLG states stands in its training part, so that no training text could be found for it.
Here both parts come from the training part: FACTS facts are drawn of which some people wrote a sentence of their own; the test
part has one such sentence of each fact, in which the object stands word for word after the subject, and the training part up to
STATEMENTS other texts that state it, alone or among MOST_STATED facts at most. The same file gives the same texts.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.data.pools import Asked, Pool
from tda.data.stated_facts import asked_of_text
from tda.data.text_files import text_table
from tda.experiments.folders import data_folder
from tda.system.errors import UserError

FACTS, STATEMENTS, MOST_STATED = 400, 4, 2

_FOLDER = "webnlg"
_DRAW_SEED = 0


def sentences(part: str) -> Pool:
    """Texts that state facts, of one class, with the facts' names; those of the "test" part ask for one each."""
    drawn = _drawn(data_folder() / _FOLDER)
    rows = list(drawn.test) if part == "test" else drawn.training
    return Pool(
        np.array([drawn.texts[row] for row in rows], dtype=object),
        np.zeros(len(rows), dtype=np.int64),
        [drawn.files[row] for row in rows],
        facts=[drawn.facts[row] for row in rows],
        asked=[drawn.test.get(row) for row in rows],
    )


@dataclass(frozen=True)
class _Drawn:
    """Every row's text, file and facts; rows of the training part; what each row of the test part asks for."""

    texts: list[str]
    files: list[str]
    facts: list[tuple[str, ...]]
    training: list[int]
    test: dict[int, Asked]


@functools.lru_cache(maxsize=2)
def _drawn(folder: Path) -> _Drawn:
    """Raises UserError for a file that is missing or damaged, or holds too few facts."""
    table = text_table(folder, "train", data_folder())
    texts, facts = table.texts("text"), table.tuples("facts")
    training: dict[int, None] = {}
    test: dict[int, Asked] = {}
    generator = np.random.default_rng(_DRAW_SEED)
    stating = _rows_by_fact(facts)
    for fact in generator.permutation(np.array(list(stating), dtype=object)):
        rows = generator.permutation(stating[fact]).tolist()
        asking = (row for row in rows if set(facts[row]) == {fact} and row not in training and asked_of_text(texts[row], fact))
        held_out = next(asking, None)
        others = [row for row in rows if row not in test and held_out is not None and texts[row] != texts[held_out]]
        if held_out is not None and others:
            test[held_out] = asked_of_text(texts[held_out], fact)
            training |= dict.fromkeys(others[:STATEMENTS])
        if len(test) == FACTS:
            return _Drawn(texts, list(table.rows), facts, list(training), test)
    raise UserError(
        f"{table.where} holds {len(test)} facts that a sentence of their own and another text state, fewer than the {FACTS} "
        "that are drawn; put the whole file there"
    )


def _rows_by_fact(facts: list[tuple[str, ...]]) -> dict[str, list[int]]:
    """The rows that state each fact, of texts that do not state too many."""
    found: dict[str, list[int]] = {}
    for row, stated in enumerate(facts):
        if len(set(stated)) <= MOST_STATED:
            for fact in dict.fromkeys(stated):
                found.setdefault(fact, []).append(row)
    return found
