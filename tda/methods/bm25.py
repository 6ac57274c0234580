"""BM25: how many words a training and a test text share, rare ones above all; what a search engine would find.

It knows no model: every seed and checkpoint has the same scores. Akyurek et al. 2022 found it hard to beat at finding the texts
that state a fact; what makes a model say it is another question.
"""

import functools
import re
import sys
import unicodedata

import torch

from tda.data.splits import Split
from tda.methods.registry import Attribution, one_after_another, register
from tda.training.example_texts import check_texts, texts_of_test, texts_of_training
from tda.training.members import Member

_SIGN = "positive = shares words, rare ones most, and never negative; neither labels nor the model are seen"


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation; the marks above or below letters belong to them."""
    return _word().findall(unicodedata.normalize("NFC", text).lower())


@functools.cache
def _word() -> re.Pattern[str]:
    marks = (letter for letter in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(letter).startswith("M"))
    return re.compile(rf"[\w{re.escape(''.join(marks))}]+")


@register(
    "bm25",
    "BM25",
    "Robertson and Zaragoza 2009; Lu 2024",
    check=check_texts,
    sign=_SIGN,
    needs="texts",
    in_all=False,
    k1=1.5,
    b=0.75,
)
@one_after_another
def bm25(member: Member, train: Split, test: Split, k1: float, b: float) -> Attribution:
    """BM25 of each training text as a document for each test text as a query, with Lucene's idf, by the package bm25s.

    Sum over the query's words w, counted as often as they stand there, of log(1 + (N - n_w + 0.5) / (n_w + 0.5)) times
    f / (f + k1 (1 - b + b l / mean l)), f the count of w among the l words of a text, n_w how many of the N texts have it.
    k1: how soon a repeated word counts no more; b: how far long texts count less.
    """
    import bm25s

    documents, queries = (
        [words_of(text) for text in texts] for texts in (texts_of_training(member, train), texts_of_test(member, test))
    )
    scores = torch.zeros(len(documents), len(queries))
    if not any(documents):
        return Attribution(scores)
    index = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float32")
    index.index(documents, show_progress=False)
    for column, query in enumerate(queries):
        if query:
            scores[:, column] = torch.from_numpy(index.get_scores(query))
    return Attribution(scores)
