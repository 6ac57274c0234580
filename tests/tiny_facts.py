"""Where a dozen people live, stated in three ways: a task that asks for facts, and a GPT-2 small enough to learn it soon."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tda.data.index_files import write_subset
from tda.data.pools import Asked, Pool
from tda.data.task_entry import Task
from tda.data.tasks import task_named
from tda.data.text_tasks import text_kind
from tda.data.tokenizers import TextTokens, trained_tokenizer
from tda.experiments.folders import Experiment
from tda.gradients.objectives import NextToken
from tda.models.families import FAMILIES
from tda.models.language_models import Sizes, causal
from tda.models.training_plan import TrainingPlan

PEOPLE = "anna bela carl dora emil fanny gita hugo irma jon karin leo".split()
TOWNS = "rome paris oslo".split()
TEMPLATES = ("{} lives in {}", "{} is from {}", "{} comes from {}")
EXPERIMENT = Experiment("gpt", "few_facts", 24)
CHOSEN = {"model": "gpt", "task": "few_facts", "num_per_class": 24, "variant": ""}


def statements(part: str) -> Pool:
    """Two statements of each person's town, and the third way of saying it in the test part, which asks for the town."""
    texts, facts, asked = [], [], []
    for number, person in enumerate(PEOPLE):
        town = TOWNS[number % len(TOWNS)]
        for way, template in enumerate(TEMPLATES):
            if (way == number % len(TEMPLATES)) == (part == "test"):
                text = template.format(person, town)
                texts.append(text)
                facts.append((f"{person} | town | {town}",))
                asked.append(Asked(facts[-1][0], (len(text) - len(town), len(text))))
    return Pool(np.array(texts, dtype=object), np.zeros(len(texts), dtype=np.int64), facts=facts, asked=asked)


def _texts() -> list[str]:
    return list(statements("train").examples)


TASK = Task(
    name="few_facts",
    title="where people live",
    classes=(0,),
    class_names=("text",),
    epochs=30,
    test_per_class=12,
    load=statements,
    kind=text_kind(TextTokens(functools.partial(trained_tokenizer, "few_facts", _texts, 320), 9)),
    objective=NextToken(),
)


def plan(task: Task) -> TrainingPlan:
    """Enough steps for most towns to be learned."""
    return TrainingPlan(epochs=task.epochs, learning_rate=1e-2, batch_size=8, num_kept_epochs=2)


def prepare(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task among the user's own, its index files, and the small GPT-2 in place of the family's."""
    (root / "tasks").mkdir(exist_ok=True)
    (root / "tasks" / "few_facts.py").write_text("import tiny_facts\n\nTASK = tiny_facts.TASK\n")
    small = functools.partial(causal, Sizes(width=16, layers=1, heads=2, hidden=32))
    monkeypatch.setitem(FAMILIES, "gpt", replace(FAMILIES["gpt"], build=small, plan=plan))
    task = task_named("few_facts")
    for part, count in (("train", 24), ("test", 12)):
        write_subset(task, part, count, draw_seed=0, force=True)
