"""Statements whose attribution was asked for, as run_text_attribution.py left them: prompts, continuations and their texts."""

import json
from collections.abc import Mapping

from tda.experiments.folders import ResultsFolder
from tda.system.errors import UserError
from tda.system.files import reading

FOLDER = "text_attributions"
MOST_SHOWN = 50


def read_statements(folder: ResultsFolder, checkpoints: Mapping[tuple[int, int], dict]) -> list[dict]:
    """The statements of an experiment, of its present checkpoints alone, in the order of their prompts; at most 50.

    checkpoints: what each says of itself, by seed id and epoch. Each row of a statement's method gets `cells`, its tokens with
    their shares. Raises UserError for a file that is damaged.
    """
    present = {info["sha256"] for info in checkpoints.values()}
    found = []
    for path in sorted((folder.path / FOLDER).glob("*.json")):
        try:
            with reading(path):
                statement = json.loads(path.read_text(encoding="utf-8"))
            if all(each in present for of_seed in statement["checkpoints"] for each in of_seed):
                found.append(_shown(statement))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; delete it and run run_text_attribution.py again") from error
    return sorted(found, key=lambda statement: (statement["prompt"], statement["continuation"]))[:MOST_SHOWN]


def _shown(statement: dict) -> dict:
    methods = []
    for method in statement["methods"]:
        largest = max((abs(share) for row in method["rows"] for share in row["shares"] or ()), default=0.0) or 1.0
        rows = [row | {"cells": _cells(statement["tokens"], row["shares"], largest)} for row in method["rows"]]
        methods.append(method | {"rows": rows})
    said: dict[str, int] = {}
    for words in statement["said"]:
        said[words] = said.get(words, 0) + 1
    chances = list(zip(statement["tokens"], statement["log_probabilities"], strict=True))
    kept = {key: statement[key] for key in ("prompt", "continuation", "seeds")}
    return kept | {
        "methods": methods,
        "chances": chances,
        "said_by": sorted(said.items(), key=lambda pair: (-pair[1], pair[0])),
    }


def _cells(tokens: list[str], shares: list[float] | None, largest: float) -> list[tuple[str, float, str, int]]:
    """Of each token its text, its share, whether it helps, and how strongly it is coloured, from 0 to 5."""
    if shares is None:
        return []
    words = ("helps", "opposes")
    return [
        (token, share, words[share < 0], round(5 * abs(share) / largest)) for token, share in zip(tokens, shares, strict=True)
    ]
