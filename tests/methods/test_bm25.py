"""BM25 against its formula in a loop."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny_model import score

from tda.data.kinds import shown_inputs
from tda.data.tasks import task_named
from tda.methods.bm25 import words_of
from tda.methods.registry import load_method
from tda.system.errors import UserError
from tda.training.example_texts import check_texts, texts_of_training
from tda.training.study import open_study


@pytest.mark.parametrize("tiny", ["text", "gpt"], indirect=True)
@pytest.mark.parametrize("settings", [{}, {"k1": 0.7, "b": 0.2}])
def test_scores_are_the_formula(tiny, settings: dict):
    train, test, members = tiny
    kind = members[0].study.task.kind
    documents, queries = (
        [words_of(shown_inputs(kind, split.inputs, i)[1]) for i in range(len(split))] for split in (train, test)
    )
    k1, b = settings.get("k1", 1.5), settings.get("b", 0.75)
    mean = sum(map(len, documents)) / len(documents)
    scores = score("bm25", members, train, test, **settings)
    assert all(torch.equal(each, scores[0]) for each in scores)
    for i, document in enumerate(documents):
        counts = Counter(document)
        for j, query in enumerate(queries):
            expected = 0.0
            for word in query:
                holders = sum(word in other for other in documents)
                rarity = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
                expected += rarity * counts[word] / (counts[word] + k1 * (1 - b + b * len(document) / mean))
            assert float(scores[0][i, j]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tiny", ["bert"], indirect=True)
def test_texts_are_found_by_their_index(tiny):
    train, _, members = tiny
    texts = texts_of_training(members[0], train)
    assert texts_of_training(members[0], train[[3, 1]]) == [texts[3], texts[1]] and all(texts)


def test_words_are_small_and_without_punctuation():
    assert words_of("The cat's 2nd Äpfel-Kuchen, (really)!") == ["the", "cat", "s", "2nd", "äpfel", "kuchen", "really"]


def test_pictures_are_refused(root: Path):
    from tda.experiments.folders import Experiment

    study = open_study(Experiment("cnn", "digits3", 2), "cpu")
    assert task_named("digits3").kind is study.task.kind
    for name in ("bm25", "embedding_similarity"):
        assert not load_method(name).in_all and load_method(name).check is check_texts
        with pytest.raises(UserError, match="the examples of task digits3 are no texts"):
            load_method(name).check(study, [0], {})


def test_words_keep_the_marks_of_their_letters():
    assert words_of("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902") == [
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u092e\u0947\u0902",
    ]
    assert words_of("Cafe\u0301s, it's") == words_of("caf\u00e9s it's") == ["caf\u00e9s", "it", "s"]
