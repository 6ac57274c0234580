"""Facts of WebNLG with one statement each held out, and where answers stand."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from tda.data import webnlg_facts
from tda.data.index_files import write_subset
from tda.data.splits import load_split
from tda.data.stated_facts import asked_of_text, parts_of_fact
from tda.data.tasks import task_named
from tda.system.errors import UserError


@pytest.fixture
def folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(webnlg_facts, "FACTS", 5)
    webnlg_facts._drawn.cache_clear()
    folder = root / "data" / "webnlg"
    folder.mkdir(parents=True)
    texts, facts = [], []
    for number in range(8):
        fact = f'Town_{number} | leader | "Person_{number}"'
        for form in ("Town {0} is led by Person {0}.", "Town {0}'s leader: Person {0}", "Person {0} leads Town {0}."):
            texts.append(form.format(number))
            facts.append([fact])
        texts.append(f"Town {number}, of Land {number}, has Person {number}.")
        facts.append([fact, f"Town_{number} | country | Land_{number}"])
    pd.DataFrame({"text": texts, "facts": facts}).to_parquet(folder / "train.parquet")
    yield folder
    webnlg_facts._drawn.cache_clear()


def test_every_test_text_asks_for_a_fact_that_training_texts_state(folder: Path):
    train, test = webnlg_facts.sentences("train"), webnlg_facts.sentences("test")
    assert len(test.labels) == 5 and not set(train.examples) & set(test.examples)
    for text, stated, asked in zip(test.examples, test.facts, test.asked, strict=True):
        assert stated == (asked.fact,)
        assert text[slice(*asked.place)] == parts_of_fact(asked.fact)[2] and not text.startswith("Person")
        assert 1 <= sum(asked.fact in facts for facts in train.facts) <= webnlg_facts.STATEMENTS
    assert all(asked is None for asked in train.asked)
    again = webnlg_facts.sentences("train")
    webnlg_facts._drawn.cache_clear()
    assert again.examples.tolist() == webnlg_facts.sentences("train").examples.tolist()


def test_labels_of_the_test_part_count_the_answer_alone(folder: Path, root: Path):
    task = task_named("webnlg_facts")
    small = type(task)(**{**vars(task), "test_per_class": 5})
    for part, count in (("train", 8), ("test", 5)):
        write_subset(small, part, count, draw_seed=0, force=True)
    train, test = load_split(small, "train", 8), load_split(small, "test")
    assert train.asked is None and (train.labels >= 0).sum() == train.inputs["attention_mask"].sum()
    tokenizer = task.kind.encode.__self__.load()
    for row in range(5):
        counted = test.labels[row] >= 0
        assert tokenizer.decode(test.labels[row][counted].tolist()).strip() == parts_of_fact(test.asked[row])[2]
    part = test[torch.tensor([3, 1])]
    assert part.asked.tolist() == [test.asked[3], test.asked[1]] and test[:2].asked.tolist() == test.asked[:2].tolist()
    assert test.fingerprint != load_split(small, "train", 8).fingerprint


def test_too_few_facts_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webnlg_facts, "FACTS", 9)
    with pytest.raises(UserError, match="holds 8 facts that a sentence of their own and another text state, fewer than the 9"):
        webnlg_facts.sentences("test")


def test_where_an_answer_stands():
    found = asked_of_text("Ann Lee was born in Rome, not in Rome Park.", 'Ann_Lee | birthPlace | "Rome"')
    assert found.place == (33, 37)
    assert asked_of_text("Rome is where Ann Lee was born.", "Ann_Lee | birthPlace | Rome") is None
    assert asked_of_text("She was born in Rome.", "Ann_Lee | birthPlace | Rome") is None
    assert asked_of_text("Ann Lee was born there.", "Ann_Lee | birthPlace | Rome") is None
    assert parts_of_fact("no fact") is None and asked_of_text("no fact", "no fact") is None
