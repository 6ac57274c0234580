"""Tasks of texts from files of one's own: pools, pairs, classes, facts, and the way through the steps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CHECKOUT

from tda.data.index_files import write_subset
from tda.data.kinds import shown_inputs
from tda.data.splits import load_split, split_of_indices
from tda.data.task_modifiers import modified
from tda.data.tasks import task_named, texts_from_library
from tda.data.text_library import TextSource
from tda.gradients.objectives import NextToken
from tda.system.errors import UserError

QUESTIONS = ["who runs?", "who sleeps?", "who sings?", "who waits?"] * 3
SENTENCES = [f"number {number} does, says the note" for number in range(12)]
LABELS = ["yes", "no", "unsure"] * 4
FACTS = [[f"fact {number}", "another"][: 1 + number % 2] for number in range(12)]
SOURCE = TextSource("notes", ("question", "sentence"), "label", ("no", "yes"), "facts", test_part="dev")


@pytest.fixture
def notes(root: Path) -> Path:
    folder = root / "data" / "notes"
    folder.mkdir()
    frame = pd.DataFrame({"question": QUESTIONS, "sentence": SENTENCES, "label": LABELS, "facts": FACTS})
    for part in ("train", "dev"):
        frame.to_parquet(folder / f"{part}.parquet")
    return folder


def test_pairs_with_classes_and_facts(notes: Path):
    pool = SOURCE.pool("test")
    assert pool.examples_at([2, 5])[0].tolist() == [QUESTIONS[2], QUESTIONS[5]]
    assert pool.examples_at([2, 5])[1].tolist() == [SENTENCES[2], SENTENCES[5]]
    assert pool.labels.tolist() == [1, 0, 2] * 4 and pool.files[3] == "notes/dev.parquet, row 3"
    assert pool.facts_at([0, 1]).tolist() == [("fact 0",), ("fact 1", "another")]
    with pytest.raises(UserError, match="has no texts of class maybe; its classes are no, unsure, yes"):
        TextSource("notes", ("question",), "label", ("no", "maybe")).pool("train")
    with pytest.raises(UserError, match="has no column body; its columns are question, sentence, label, facts"):
        TextSource("notes", ("body",), "label", ("no",)).pool("train")


def test_the_second_of_two_columns_can_be_an_answer(notes: Path):
    columns = ("question", "sentence")
    shared = {"name": "asked", "title": "asked", "class_names": ("text",), "epochs": 1, "test_per_class": 2}
    task = texts_from_library("notes", columns, tokenizer=300, length=16, answer_length=24, objective=NextToken(), **shared)
    inputs = task.kind.inputs(task.load("train").examples_at([0, 1]))
    assert {name: part.shape[1] for name, part in inputs.items()} == {
        "input_ids": 16,
        "attention_mask": 16,
        "decoder_input_ids": 24,
        "decoder_attention_mask": 24,
    }
    assert shown_inputs(task.kind, inputs, 1)[1] == f"{QUESTIONS[1]}\n{SENTENCES[1]}"


def test_texts_without_labels_are_of_one_class(notes: Path):
    pool = TextSource("notes", ("sentence",), None, ("text",)).pool("train")
    assert pool.labels.tolist() == [0] * 12 and pool.examples.tolist() == SENTENCES and pool.facts is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"columns": ("question", "sentence", "label")}, "task notes cannot read 3 columns: a model takes one text, or a pair"),
        ({"tokenizer": 257}, "task notes cannot have 257 tokens: bytes and marks alone are 258"),
    ],
)
def test_entries_that_cannot_be_are_refused_at_once(changed: dict, words: str):
    entry = {"name": "notes", "title": "", "class_names": ("a",), "epochs": 1, "test_per_class": 1}
    with pytest.raises(UserError, match=words):
        texts_from_library("notes", **entry, **changed)


def test_facts_go_with_their_examples_through_splits(notes: Path, root: Path):
    task = texts_from_library(
        "notes",
        ("question", "sentence"),
        "label",
        "facts",
        test_part="dev",
        tokenizer=300,
        length=40,
        name="notes",
        title="notes",
        class_names=("no", "yes"),
        epochs=1,
        test_per_class=2,
    )
    (root / "chosen.txt").write_text("4\n1\n0\n")
    split = split_of_indices(task, "train", root / "chosen.txt")
    assert split.facts.tolist() == [tuple(FACTS[4]), tuple(FACTS[1]), tuple(FACTS[0])]
    assert split[[2, 0]].facts.tolist() == [tuple(FACTS[0]), tuple(FACTS[4])] and split[1:].facts[0] == tuple(FACTS[1])
    assert shown_inputs(task.kind, split.inputs, 0)[1] == f"{QUESTIONS[4]}\n{SENTENCES[4]}"
    flipped = modified(task, "notes_flipped50", "flipped", 50)
    assert flipped.load("train").facts == task.load("train").facts
    with pytest.raises(UserError, match="a patch is planted in images"):
        modified(task, "notes_patched50", "patched", 50)


def test_a_data_set_of_the_hub_is_refused_in_one_sentence_offline(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="the validation part of the hub's data set nyu-mll/glue:qnli cannot be read.*qnli$"):
        task_named("qnli").load("test")
    with pytest.raises(UserError, match="webnlg is missing; put dev.parquet"):
        task_named("webnlg").load("test")


def test_entries_say_what_they_are():
    qnli, webnlg = task_named("qnli"), task_named("webnlg")
    assert qnli.class_names == ("entailment", "not_entailment") and qnli.classes == (0, 1)
    assert webnlg.objective == NextToken() and webnlg.class_names == ("text",)


def test_real_files_where_they_are(monkeypatch: pytest.MonkeyPatch):
    if not (CHECKOUT / "data" / "qnli" / "train.parquet").exists():
        pytest.skip("QNLI is not in data/qnli")
    monkeypatch.setenv("TDA_ROOT", str(CHECKOUT))
    pool = task_named("qnli").load("train")
    assert len(pool.labels) == len(pool.examples[0]) and set(np.unique(pool.labels)) == {0, 1}


def test_task_of_files_goes_through_drawing(notes: Path):
    task = texts_from_library(
        "notes",
        "sentence",
        "label",
        test_part="dev",
        tokenizer=300,
        name="notes",
        title="notes",
        class_names=("no", "yes"),
        epochs=1,
        test_per_class=2,
    )
    write_subset(task, "train", 2, draw_seed=0, force=False)
    split = load_split(task, "train", 2)
    assert len(split) == 4 and split.labels.tolist() == [0, 1, 0, 1] and split.files[0].startswith("notes/train.parquet, row")
    assert split.inputs["input_ids"].shape == (4, 64) and "token_type_ids" not in split.inputs
