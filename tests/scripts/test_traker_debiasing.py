"""The page docs/traker-debiasing.md runs as it stands: a user's own task, alignment, removal and retraining."""

from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT
from test_documents import blocks
from torch.nn.functional import cross_entropy

PAGE = CHECKOUT / "docs" / "traker-debiasing.md"


def test_the_page_runs_and_what_it_drops_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    data, flow = blocks(PAGE.read_text(), "python")
    assert len([line for line in flow.splitlines() if line.strip()]) <= 40
    names: dict = {}
    for block in (data, flow):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["scores"].shape == (120, 30)
    wrong = (names["labels"] != names["truth"])[:120]
    dropped = torch.tensor(sorted(set(range(120)) - set(names["kept"])))
    assert len(dropped) == 12 and wrong[dropped].float().mean() >= 0.8
    images, labels = names["valid"].tensors
    with torch.no_grad():
        before, after = (names[model](images).logits for model in ("model", "again"))
    assert (after.argmax(1) == labels).float().mean() > (before.argmax(1) == labels).float().mean()
    assert cross_entropy(after, labels) < cross_entropy(before, labels)
