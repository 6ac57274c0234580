"""The programs of docs/traker-texts.md, and of the images with texts of docs/traker.md, run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKOUT

PAGE = CHECKOUT / "docs" / "traker-texts.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(3))
def test_programs_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert len(PROGRAMS) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names: dict = {}
    exec(compile(PROGRAMS[number], str(PAGE), "exec"), names)
    scores = np.array(names["scores"])
    assert scores.shape == (40, (5, 3, 5)[number]) and np.isfinite(scores).all() and np.abs(scores).max() > 0


def test_the_wrapper_of_two_towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (CHECKOUT / "docs" / "traker.md").read_text()
    (program,) = [one for one in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE) if "TwoTowers" in one]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names: dict = {}
    exec(compile(program, "docs/traker.md", "exec"), names)
    scores = np.array(names["scores"])
    assert scores.shape == (40, 5) and np.isfinite(scores).all() and np.abs(scores).max() > 0
