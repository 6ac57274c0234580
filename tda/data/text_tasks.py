"""The tasks of texts, and how an entry of one's own is made."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tda.data import pararel, webnlg_facts
from tda.data.kinds import TextKind
from tda.data.packaged_encoder import PACKAGED
from tda.data.packaged_language_model import SMOLLM2
from tda.data.pools import Pool
from tda.data.task_entry import Task
from tda.data.text_library import TextSource
from tda.data.tokenizers import FEWEST, AnsweredTokens, TextTokens, tokenizer_named, trained_tokenizer
from tda.gradients.objectives import NextToken
from tda.system.errors import UserError


def texts_from_library(
    path: str,
    columns: str | tuple[str, ...] = "text",
    label_column: str | None = None,
    facts_column: str | None = None,
    test_part: str = "test",
    hub: str | None = None,
    tokenizer: str | int = PACKAGED,
    length: int = 64,
    answer_length: int | None = None,
    **entry,
) -> Task:
    """A task whose texts, or pairs of texts, come from files below data/ or from the hub (see TextSource).

    tokenizer: of a pre-trained model, by the name of a folder or by hub name, or PACKAGED; a number trains one of so many
    tokens on the task's own training texts. length: in tokens, to which texts are cut and padded. answer_length: the same of
    the second of two columns, with a token that begins it, where a model is to write that one having read the first, as T5
    does. entry: the other fields of Task; class_names are the data set's own, one name where there is no label_column.
    Raises UserError for more than two columns, and for fewer tokens than bytes need.
    """
    names = (columns,) if isinstance(columns, str) else columns
    if len(names) > 2:
        raise UserError(f"task {entry['name']} cannot read {len(names)} columns: a model takes one text, or a pair; join some")
    source = TextSource(path, names, label_column, entry["class_names"], facts_column, test_part, hub)
    tokens = tokens_of(entry["name"], tokenizer, source.pool, length)
    if answer_length is not None:
        tokens = AnsweredTokens(tokens.load, length, answer_length)
    return Task(classes=tuple(range(len(source.class_names))), load=source.pool, kind=text_kind(tokens), **entry)


def tokens_of(name: str, tokenizer: str | int, load: Callable[[str], Pool], length: int) -> TextTokens:
    """The tokens of a task's texts, by the name of a tokenizer, or a number: one trained on them of so many tokens."""
    return TextTokens(_loader(name, tokenizer, load), length)


def text_kind(tokens: TextTokens | AnsweredTokens) -> TextKind:
    """The kind of texts that are read as these tokens."""
    within = tokens.within if isinstance(tokens, TextTokens) else None
    return TextKind(tokens.encode, tokens.decode, tokens.vocabulary, within)


def _loader(name: str, tokenizer: str | int, load: Callable[[str], Pool]) -> Callable:
    if isinstance(tokenizer, str):
        return functools.partial(tokenizer_named, tokenizer)
    if tokenizer < FEWEST:
        raise UserError(f"task {name} cannot have {tokenizer} tokens: bytes and marks alone are {FEWEST}; choose more")
    return functools.partial(trained_tokenizer, name, functools.partial(_training_texts, load), tokenizer)


def _training_texts(load: Callable[[str], Pool]) -> Sequence[str]:
    examples = load("train").examples
    parts = examples if isinstance(examples, tuple) else (examples,)
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


_FACTS = {
    "classes": (0, 1),
    "class_names": pararel.CLASS_NAMES,
    "epochs": 40,
    "test_per_class": 200,
}
_FACT_TOKENS = _loader("pararel", 4096, pararel.sentences)

TEXT_TASKS = (
    texts_from_library(
        path="qnli",
        columns=("question", "sentence"),
        label_column="label",
        test_part="validation",
        hub="nyu-mll/glue:qnli",
        length=80,
        name="qnli",
        title="QNLI: does the sentence answer the question?",
        class_names=("entailment", "not_entailment"),
        epochs=4,
        test_per_class=100,
    ),
    texts_from_library(
        path="webnlg",
        facts_column="facts",
        test_part="dev",
        tokenizer=4096,
        name="webnlg",
        title="WebNLG: sentences that state facts",
        class_names=("text",),
        epochs=20,
        test_per_class=100,
        objective=NextToken(),
    ),
    texts_from_library(
        path="webnlg",
        facts_column="facts",
        test_part="dev",
        tokenizer=SMOLLM2,
        length=48,
        name="webnlg_smollm2",
        title="WebNLG in the tokens of SmolLM2",
        class_names=("text",),
        epochs=2,
        test_per_class=50,
        objective=NextToken(),
    ),
    Task(
        name="webnlg_facts",
        title="WebNLG: sentences that state facts, and one that asks for each",
        load=webnlg_facts.sentences,
        kind=text_kind(TextTokens(_loader("webnlg_facts", 2048, webnlg_facts.sentences), 32)),
        objective=NextToken(),
        classes=(0,),
        class_names=("text",),
        epochs=40,
        test_per_class=100,
    ),
    Task(
        name="pararel",
        title="ParaRel: facts stated once, and in several paraphrases",
        load=pararel.sentences,
        kind=text_kind(TextTokens(_FACT_TOKENS, 20)),
        objective=NextToken(),
        **_FACTS,
    ),
    Task(
        name="pararel_questions",
        title="ParaRel: the object of a fact, asked for by a sentence with a blank",
        load=pararel.questions,
        kind=text_kind(AnsweredTokens(_FACT_TOKENS, 20, 12)),
        objective=NextToken(),
        **_FACTS,
    ),
    texts_from_library(
        path="own_texts",
        label_column="class",
        name="own_texts",
        title="texts of one's own, in data/own_texts/<train or test>/<class>/<file>.txt",
        class_names=("zero", "one"),
        epochs=4,
        test_per_class=10,
    ),
)
