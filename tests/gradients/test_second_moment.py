"""The sum of outer products of gradients against formed ones."""

import pytest
import torch
from torch import nn

from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.gradient_rows import GradientRows
from tda.gradients.quantities import curvature_roots
from tda.gradients.second_moment import second_moment

MODELS = {
    "one linear layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3)),
    "without bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False)),
    "two linear layers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3)),
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("examples", [3, 400])
def test_equals_the_product_of_formed_rows(name: str, examples: int):
    torch.manual_seed(0)
    model, images = MODELS[name]().double(), torch.randn(examples, 1, 4, 4, dtype=torch.float64)
    labels = torch.randint(3, (examples,))
    plan = plan_gradients(model, images, None, examples, examples)
    rows = plan.rows(images, labels, curvature_roots)
    dense = rows.dense()
    torch.testing.assert_close(second_moment(rows), dense.T @ dense, rtol=1e-10, atol=1e-12)


def test_one_linear_layer_is_never_formed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(GradientRows, "dense", lambda rows: pytest.fail("rows were formed"))
    model, images = MODELS["one linear layer"](), torch.randn(400, 1, 4, 4)
    rows = plan_gradients(model, images, None, 400, 400).rows(images, torch.zeros(400, dtype=torch.int64), curvature_roots)
    assert second_moment(rows).shape == (51, 51)
