"""Facts stated in sentences: triples of LAMA (Petroni et al. 2019) in the paraphrases of ParaRel (Elazar et al. 2021).

SEVERAL facts are stated in PARAPHRASES sentences each, ONCE others in a single one; each fact's test sentence states it in a
paraphrase that no training sentence of it has, the object after the subject: it asks for the object. Which facts and which
paraphrases is drawn from the files alone, so that the same files give the same sentences.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tda.data.picture_folders import printable
from tda.data.pools import Asked, Pool
from tda.data.text_files import text_table
from tda.experiments.folders import data_folder
from tda.system.errors import UserError

ONCE, SEVERAL, PARAPHRASES = 800, 200, 4
CLASS_NAMES = ("once", "several")
"""How often a fact is stated: the classes of the sentences, so that subsets hold as many of either."""

BLANK = "___"
"""What stands for the object in a question."""

_FOLDER = "pararel"
_DRAW_SEED = 0


@dataclass(frozen=True)
class Fact:
    """A triple, and the templates with [X] and [Y] that training sentences and the test sentence are made of."""

    relation: str
    subject: str
    object: str
    training: Sequence[str]
    held_out: str

    @property
    def name(self) -> str:
        """The triple as one text, by which sentences say what they state."""
        return f"{self.subject} | {self.relation} | {self.object}"


def sentences(part: str) -> Pool:
    """Sentences that state facts, with the facts' names."""
    stated = _stated(part)
    texts = np.array([_filled(template, fact.subject, fact.object) for fact, template in stated], dtype=object)
    return _pool(stated, texts, [_asked(fact, template) for fact, template in stated])


def questions(part: str) -> Pool:
    """The same sentences with BLANK for the object, each beside the object that answers it."""
    stated = _stated(part)
    asked = np.array([_filled(template, fact.subject, BLANK) for fact, template in stated], dtype=object)
    answers = np.array([fact.object for fact, _ in stated], dtype=object)
    return _pool(stated, (asked, answers), [Asked(fact.name) for fact, _ in stated])


def _asked(fact: Fact, template: str) -> Asked | None:
    """The object's place in the filled template; None where it stands before the subject."""
    before, separator, _ = template.partition("[Y]")
    if "[X]" not in before or not separator:
        return None
    start = len(before.replace("[X]", fact.subject))
    return Asked(fact.name, (start, start + len(fact.object)))


def _pool(
    stated: list[tuple[Fact, str]], examples: np.ndarray | tuple[np.ndarray, np.ndarray], asked: list[Asked | None]
) -> Pool:
    labels = np.array([int(len(fact.training) > 1) for fact, _ in stated], dtype=np.int64)
    files = [printable(f"{fact.name}, as {template}") for fact, template in stated]
    return Pool(examples, labels, files, facts=[(fact.name,) for fact, _ in stated], asked=asked)


def _stated(part: str) -> list[tuple[Fact, str]]:
    """Every fact with every template that the part states it by, fact by fact."""
    facts = drawn_facts(data_folder() / _FOLDER)
    if part == "test":
        return [(fact, fact.held_out) for fact in facts]
    return [(fact, template) for fact in facts for template in fact.training]


@functools.lru_cache(maxsize=2)
def drawn_facts(folder: Path) -> tuple[Fact, ...]:
    """The facts in the order of their drawing; raises UserError for files that are missing or hold too little."""
    templates = _templates(folder)
    table = text_table(folder, "facts", data_folder())
    triples = zip(*(table.texts(column) for column in ("relation", "subject", "object")), strict=True)
    # A subject that has several objects in one relation has no one answer.
    answers: dict[tuple[str, str], set[str]] = {}
    for relation, subject, answer in triples:
        answers.setdefault((relation, subject), set()).add(answer)
    usable = [(key, min(found)) for key, found in answers.items() if len(found) == 1 and key[0] in templates]
    if len(usable) < ONCE + SEVERAL:
        raise UserError(
            f"{table.where} holds {len(usable)} facts with {PARAPHRASES + 1} paraphrases or more, fewer than the "
            f"{ONCE + SEVERAL} that are drawn; put the whole file there"
        )
    generator, found = np.random.default_rng(_DRAW_SEED), []
    for place, position in enumerate(generator.permutation(len(usable))[: ONCE + SEVERAL]):
        (relation, subject), answer = usable[position]
        order = [templates[relation][number] for number in generator.permutation(len(templates[relation]))]
        asking = [template for template in order if template.find("[X]") < template.find("[Y]")]
        held_out = asking[-1] if asking else order[-1]
        order.remove(held_out)
        found.append(Fact(relation, subject, answer, order[: PARAPHRASES if place < SEVERAL else 1], held_out))
    return tuple(found)


def _templates(folder: Path) -> dict[str, list[str]]:
    """The templates of each relation that has enough of them; raises UserError for one that lacks [X] or [Y]."""
    table = text_table(folder, "patterns", data_folder())
    found: dict[str, list[str]] = {}
    for row, relation, pattern in zip(table.rows, table.texts("relation"), table.texts("pattern"), strict=True):
        if pattern.count("[X]") != 1 or pattern.count("[Y]") != 1:
            raise UserError(f"{row} holds the pattern {pattern}, which needs [X] and [Y] once each; mend it")
        if pattern not in found.setdefault(relation, []):
            found[relation].append(pattern)
    return {relation: patterns for relation, patterns in found.items() if len(patterns) > PARAPHRASES}


def _filled(template: str, subject: str, answer: str) -> str:
    """The sentence, its full stop without the space that the templates have before it."""
    sentence = template.replace("[X]", subject).replace("[Y]", answer)
    return sentence[:-2] + "." if sentence.endswith(" .") else sentence
