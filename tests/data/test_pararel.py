"""Facts in sentences: which are stated how often, by what, and what the test part asks."""

from pathlib import Path

import pandas as pd
import pytest

from tda.data import pararel
from tda.data.pararel import BLANK, ONCE, PARAPHRASES, SEVERAL
from tda.system.errors import UserError

TEMPLATES = ["[X] is in [Y] .", "[X] lies in [Y].", "[X], in [Y]", "[Y] has [X].", "in [Y] is [X]", "[X] of [Y]."]


@pytest.fixture
def facts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pararel, "ONCE", 12)
    monkeypatch.setattr(pararel, "SEVERAL", 3)
    pararel.drawn_facts.cache_clear()
    folder = root / "data" / "pararel"
    folder.mkdir()
    rows = [("P1", f"town {number}", f"land {number % 4}") for number in range(20)]
    rows += [("P1", "town 3", "land 0"), ("P2", "a", "b")]
    pd.DataFrame(rows, columns=["relation", "subject", "object"]).to_parquet(folder / "facts.parquet")
    patterns = [("P1", template) for template in TEMPLATES] + [("P2", "[X] [Y]")]
    pd.DataFrame(patterns, columns=["relation", "pattern"]).to_parquet(folder / "patterns.parquet")
    yield folder
    pararel.drawn_facts.cache_clear()


def test_some_facts_are_stated_once_and_some_in_several_paraphrases(facts: Path):
    train, test = pararel.sentences("train"), pararel.sentences("test")
    assert len(train.labels) == 12 + 3 * PARAPHRASES and len(test.labels) == 15
    stated = {}
    for text, label, (fact,) in zip(train.examples, train.labels, train.facts, strict=True):
        subject, relation, answer = fact.split(" | ")
        assert subject in text and answer in text and relation == "P1" and subject != "town 3"
        stated.setdefault(fact, []).append(text)
        assert label == (len(pararel.drawn_facts(facts)) and fact in [f.name for f in pararel.drawn_facts(facts)[:3]])
    assert sorted(map(len, stated.values())) == [1] * 12 + [PARAPHRASES] * 3
    assert all(len(set(texts)) == len(texts) for texts in stated.values())
    for text, (fact,) in zip(test.examples, test.facts, strict=True):
        assert text not in stated[fact] and fact in stated
    assert all(" ." not in text for text in (*train.examples, *test.examples))


def test_test_sentences_ask_for_the_object_behind_the_subject(facts: Path):
    for part in ("train", "test"):
        pool = pararel.sentences(part)
        for text, (fact,), asked in zip(pool.examples, pool.facts, pool.asked, strict=True):
            subject, _, answer = fact.split(" | ")
            if text.index(subject) < text.index(answer):
                assert asked.fact == fact and text[slice(*asked.place)] == answer and asked.place[0] > text.index(subject)
            else:
                assert asked is None and part == "train"
    questions = pararel.questions("test")
    assert [asked.fact for asked in questions.asked] == [fact for (fact,) in questions.facts]
    assert all(asked.place is None for asked in questions.asked)


def test_the_same_files_give_the_same_sentences(facts: Path):
    first = pararel.sentences("train")
    pararel.drawn_facts.cache_clear()
    again = pararel.sentences("train")
    assert first.examples.tolist() == again.examples.tolist() and first.files == again.files


def test_questions_are_the_sentences_with_a_blank(facts: Path):
    asked, whole = pararel.questions("train"), pararel.sentences("train")
    for question, answer, text in zip(*asked.examples, whole.examples, strict=True):
        assert question.count(BLANK) == 1 and question.replace(BLANK, answer) == text
    assert asked.facts == whole.facts and asked.labels.tolist() == whole.labels.tolist()


def test_files_that_hold_too_little_are_refused(facts: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pararel, "ONCE", 100)
    with pytest.raises(UserError, match="holds 19 facts with 5 paraphrases or more, fewer than the 103 that are drawn"):
        pararel.sentences("train")
    pd.DataFrame({"relation": ["P1"], "pattern": ["[X] alone"]}).to_parquet(facts / "patterns.parquet")
    with pytest.raises(UserError, match="row 0 holds the pattern .X. alone, which needs .X. and .Y. once each"):
        pararel.sentences("train")


def test_numbers_of_the_task():
    assert (ONCE, SEVERAL * PARAPHRASES) == (800, 800)
