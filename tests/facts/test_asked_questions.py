"""Facts asked of a model that reads a question and writes the answer: the same step on a small T5."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_facts
from conftest import run_here

from tda.data.index_files import write_subset
from tda.data.pools import Asked, Pool
from tda.data.tasks import TASKS
from tda.data.text_tasks import text_kind
from tda.data.tokenizers import AnsweredTokens, trained_tokenizer
from tda.experiments.folders import Experiment
from tda.models.families import FAMILIES
from tda.models.language_models import Sizes, encoder_decoder

CHOSEN = {"model": "t5", "task": "few_questions", "num_per_class": 24}


def questions(part: str) -> Pool:
    """The statements with a blank for the town, and the town."""
    whole = tiny_facts.statements(part)
    pairs = [text.rsplit(" ", 1) for text in whole.examples]
    asked, answers = (np.array(side, dtype=object) for side in zip(*pairs, strict=True))
    return replace(whole, examples=(asked + " ___", answers), asked=[Asked(each.fact) for each in whole.asked])


@pytest.fixture
def prepared(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    load = functools.partial(trained_tokenizer, "few_facts", tiny_facts._texts, 320)
    kind = text_kind(AnsweredTokens(load, 9, 5))
    task = replace(tiny_facts.TASK, name="few_questions", load=questions, kind=kind, epochs=12)
    monkeypatch.setitem(TASKS, "few_questions", task)
    small = functools.partial(encoder_decoder, Sizes(width=16, layers=1, heads=2, hidden=32))
    monkeypatch.setitem(FAMILIES, "t5", replace(FAMILIES["t5"], build=small, plan=tiny_facts.plan))
    for part, count in (("train", 24), ("test", 12)):
        write_subset(task, part, count, draw_seed=0, force=True)
    return root


def test_facts_are_asked_of_a_model_that_writes_the_answer(prepared: Path):
    run_here("run_language_training.py", **CHOSEN, num_seeds=2)
    chosen = {"methods": ("grad_cos", "bm25"), "num_facts": 4, "rank": 300, "removed": 1, "removed_by": ("bm25",)}
    run_here("run_fact_tracing.py", **CHOSEN, **chosen, variant="", num_retrainings=2)
    folder = Experiment(**CHOSEN).results.path
    assert len(pd.read_csv(folder / "asked_facts.csv")) == 4
    found = pd.read_csv(folder / "fact_tracing.csv").set_index("method")
    assert found.loc["bm25", "mrr"] > found.loc["random", "mrr"] and found.loc["oracle", "recall"] == 1
    falling = pd.read_csv(folder / "fact_removal.csv")
    assert set(falling["method"]) == {"bm25", "random", "oracle"} and np.isfinite(falling["fall"]).all()
