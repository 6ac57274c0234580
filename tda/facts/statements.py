"""A statement with its attribution as plain values: what is written beside the results and shown to a person."""

import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tda.data.kinds import shown_inputs
from tda.data.splits import Split
from tda.data.task_entry import Task
from tda.facts.text_attribution import Attributed
from tda.methods.catalogue import catalogue, method_title

HELPS, OPPOSES = "helps", "opposes"
_WIDTH = 100
_LONGEST_TEXT = 800
_JOINED = "\N{NO-BREAK SPACE}"
"""Between a token and its number, which stay on one line."""


def rows_of(found: Attributed, task: Task, train: Split, count: int) -> list[dict]:
    """The `count` texts with the largest mean scores above 0, then as many with the smallest below 0."""
    order = np.argsort(-found.mean, kind="stable")
    helping = [text for text in order if found.mean[text] > 0][:count]
    opposing = [text for text in order[::-1] if found.mean[text] < 0][:count]
    return [_row(found, task, train, int(text), HELPS) for text in helping] + [
        _row(found, task, train, int(text), OPPOSES) for text in opposing
    ]


def _row(found: Attributed, task: Task, train: Split, text: int, direction: str) -> dict:
    shown = shown_inputs(task.kind, train.inputs, text)[1]
    return {
        "direction": direction,
        "train_idx": int(train.indices[text]),
        "file": None if train.files is None else str(train.files[text]),
        "mean": float(found.mean[text]),
        "std": _plain(found.std[text]),
        "q": _plain(found.q[text]),
        "text": shown[:_LONGEST_TEXT],
        "shares": None if found.shares is None else [float(share) for share in found.shares[text]],
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def method_values(found: Attributed, rows: Sequence[dict]) -> dict:
    """What a statement says of one method."""
    entries = catalogue()
    sign = entries[found.method].description.sign if found.method in entries else ""
    return {"method": found.method, "title": method_title(found.method), "sign": sign, "rows": list(rows)}


def statement_table(statement: dict) -> pd.DataFrame:
    """A row for each method and text, with a column for each token's share."""
    names = [f"share_{place}_{_token(token)}" for place, token in enumerate(statement["tokens"], start=1)]
    rows = []
    for method in statement["methods"]:
        for place, row in enumerate(method["rows"], start=1):
            shares = row["shares"] or [np.nan] * len(names)
            kept = {key: row[key] for key in ("direction", "train_idx", "file", "mean", "std", "q", "text")}
            rows.append({"method": method["method"], "place": place} | kept | dict(zip(names, shares, strict=True)))
    return pd.DataFrame(rows)


def said_by_seeds(said: Sequence[str]) -> list[tuple[str, int]]:
    """What the seeds' models say themselves, the most frequent first, with how many say so."""
    return Counter(said).most_common()


def statement_text(statement: dict) -> str:
    """The statement for a terminal, in lines of at most 100 letters."""
    lines = _wrapped(f"prompt        {statement['prompt']}") + _wrapped(f"continuation {statement['continuation']}")
    tokens = [
        f"{_token(token)}{_JOINED}{chance:.2f}"
        for token, chance in zip(statement["tokens"], statement["log_probabilities"], strict=True)
    ]
    lines += _wrapped(f"log-probability of each token, mean over {statement['seeds']} seeds: {', '.join(tokens)}")
    for words, count in said_by_seeds(statement["said"]):
        lines += _wrapped(f"said by {count} of {statement['seeds']}:{words if words.strip() else ' nothing'}")
    for method in statement["methods"]:
        lines += ["", *_wrapped(f"{method['title']} ({method['method']}): {method['sign']}")]
        lines.append(f"{'':8}{'index':>7} {'mean':>10} {'std':>9} {'q':>8}  text; shares of the tokens")
        lines += [line for row in method["rows"] for line in _lines_of(row, statement["tokens"])]
    return "\n".join(lines)


def _lines_of(row: dict, tokens: Sequence[str]) -> list[str]:
    numbers = " ".join(
        f"{'-' if value is None else format(value, '.3g'):>{width}}"
        for value, width in ((row["mean"], 10), (row["std"], 9), (row["q"], 8))
    )
    head = f"{row['direction']:<8}{row['train_idx']:>7} {numbers}  "
    text = " ".join(row["text"].split())
    lines = [head + textwrap.shorten(text, _WIDTH - len(head), placeholder=" …")]
    if row["shares"] is not None and len(tokens) > 1:
        parts = [f"{_token(token)}{_JOINED}{share:+.2g}" for token, share in zip(tokens, row["shares"], strict=True)]
        lines += _wrapped(", ".join(parts), indent=len(head))
    return lines


def _token(token: str) -> str:
    """A token without the space before it; one of spaces alone in quotation marks."""
    return token.strip() or repr(token)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin, drop_whitespace=True) or [margin]
