"""The rooms of tda/, from the code itself: floors from the layers contract, sentences from the packages' docstrings."""

import ast
import tomllib
from pathlib import Path

import pandas as pd

_CHECKOUT = Path(__file__).resolve().parent.parent


def rooms_table() -> pd.DataFrame:
    """A row for each room, from the top floor down: its sentence, and how many files it has."""
    contract = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]
    rows = []
    for floor, rooms in zip(range(len(layers), 0, -1), layers, strict=True):
        for room in rooms:
            folder = _CHECKOUT.joinpath(*room.split("."))
            files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())).partition("\n")[0].rstrip(".")
            rows.append([floor, f"`{folder.name}/`", sentence, len(files)])
    return pd.DataFrame(rows, columns=["floor", "room", "what lives there", "files"])
