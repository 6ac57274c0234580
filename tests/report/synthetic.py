"""Studies of random scores without a model behind them, and the pages that are made of them."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CPU
from tiny_texts import encode

from tda.data.kinds import ImageKind, ImageTextKind, TextKind
from tda.data.splits import Split
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment
from tda.experiments.manifest import step
from tda.models.families import family_named
from tda.report import content as content_module
from tda.report.content import PAGE_LIMIT, Content, content_of
from tda.report.members import MembersSay, Opinions
from tda.report.page import command, rendered
from tda.report.provenance import common_to_steps, files_of, steps_of
from tda.scores.score_files import Scores
from tda.scores.sign import SIGN
from tda.statistics.pair_statistics import pair_statistics
from tda.steps.compute_pvalues import summary_row
from tda.training.study import Study

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "\"quotes' & &amp; {{ 7 * 7 }} </script><b>bold</b>",
    "turned \u202eback\u202c \u05d0\u05d1\u05d2 \u0627\u0644",
)
EXPERIMENT = Experiment("cnn", "digits3", 2)


def study_of(kind: str, trains: int = 9, tests: int = 12) -> Study:
    """A study of images, texts, or images with texts, whose names are as hostile as names can be."""
    image = ImageKind(channels=1, size=6, mean=(0.0,), std=(1.0,))
    text = TextKind(encode, decode=lambda tokens: f"{HOSTILE[int(tokens['input_ids'][0]) % 3]} and more")
    kinds = {"image": image, "text": text, "both": ImageTextKind(image, text)}
    task = replace(task_named("digits3"), title=HOSTILE[0], class_names=HOSTILE, kind=kinds[kind])
    train, test = (_split(task, kind, count, part) for part, count in (("train", trains), ("test", tests)))
    return Study(EXPERIMENT, task, family_named("cnn"), (11, 22, 33, 44), train, test, CPU)


def _split(task: Task, kind: str, count: int, part: str) -> Split:
    generator = torch.Generator().manual_seed(len(part))
    pictures = torch.rand(count, 1, 6, 6, generator=generator)
    texts = {"input_ids": torch.arange(count)[:, None] % 13, "attention_mask": torch.ones(count, 1, dtype=torch.int64)}
    inputs = {"image": pictures, "text": texts, "both": {"pixel_values": pictures, **texts}}[kind]
    files = np.array([f"{part}/{HOSTILE[number % 3]}/{number}.png" for number in range(count)])
    return Split(inputs, torch.arange(count) % 3, 100 + torch.arange(count), files)


def scores_of(study: Study, method: str, seed: int, sign: str = SIGN, epochs: int = 2) -> Scores:
    """Random scores of four seeds: a part that they share, and noise."""
    generator = np.random.default_rng(seed)
    shape = (4, epochs, len(study.train), len(study.test))
    values = (generator.normal(size=shape[2:]) + 0.5 * generator.normal(size=shape)).astype(np.float32)
    indices = study.train.indices.numpy(), study.test.indices.numpy()
    return Scores(method, [0, 1, 2, 3], list(range(1, epochs + 1)), *indices, values, {"sign": sign})


METHODS = {"loo": SIGN, "grad_dot": SIGN, "repsim": "positive = alike"}


def all_scores(study: Study, epochs: int = 2) -> dict[str, Scores]:
    """Three methods, one of which means alike."""
    return {name: scores_of(study, name, seed, sign, epochs) for seed, (name, sign) in enumerate(METHODS.items())}


def opinions(labels: torch.Tensor, seeds: int = 4) -> Opinions:
    """The first example is misread by three seeds of four."""
    predicted = np.stack([labels.numpy()] * seeds)
    predicted[:3, 0] = (predicted[:3, 0] + 1) % 3
    right = (predicted == labels.numpy()).astype(float)
    losses = np.random.default_rng(5).random(right.shape)
    return Opinions(losses, right, predicted, np.arange(len(labels)) == 0)


def content_for(study: Study, scores: dict[str, Scores], monkeypatch: pytest.MonkeyPatch, root: Path) -> Content:
    """What a page of these scores holds; the members are asked nothing."""
    monkeypatch.setenv("TDA_ROOT", str(root))
    with step(study.experiment, "training", {}, {}):
        pass
    say = MembersSay(opinions(study.train.labels), opinions(study.test.labels), np.ones((4, len(study.train))))
    monkeypatch.setattr(content_module, "members_say", lambda study, seed_ids: say)
    rows = [summary_row(pair_statistics(one, k)) for one in scores.values() for k in range(1, len(one.epochs) + 1)]
    return content_of(study, list(scores), scores.__getitem__, pd.DataFrame(rows))


def page_of(study: Study, content: Content) -> str:
    """The page as the step writes it."""
    folder = study.results
    return rendered(
        "report.html",
        PAGE_LIMIT,
        content=content,
        candidates=None,
        steps=steps_of(folder),
        common=common_to_steps(folder),
        files=files_of(folder),
        command=command("run_report.py", {"experiment": folder.name}),
    )


def values_in(page: str) -> dict:
    """The plain values that a page's code reads."""
    return json.loads(re.search(r'id="values">(.*?)</script>', page, re.DOTALL)[1])


def block_in(page: str, name: str) -> bytes:
    """A packed array of a page."""
    return base64.b64decode(re.search(rf'id="block-{re.escape(name)}">([^<]*)</script>', page)[1])
