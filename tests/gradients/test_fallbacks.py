"""What is slower than layer by layer is said in the log: once, with the parameters' names and the reason."""

import logging

import pytest
import torch
from single_examples import Branching, Chunked, Mixture, MixtureClassifier, features, labels_of, seeded
from torch import Tensor, nn

from tda.gradients import fallbacks
from tda.gradients.fallbacks import report_fallback
from tda.gradients.gradient_plan import plan_gradients
from tda.gradients.quantities import cross_entropy_loss


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fallbacks, "_said", set())
    caplog.set_level(logging.INFO, logger="tda")


def messages(model: nn.Module, inputs: Tensor, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a plan and its rows say, made twice."""
    for _ in range(2):
        plan_gradients(model, inputs).rows(inputs, labels_of(inputs), cross_entropy_loss, block_size=6)
    assert all(record.name == "tda" and record.levelno == logging.WARNING for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


def test_layer_by_layer_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert messages(seeded(Mixture), features(), caplog) != []
    caplog.clear()
    model = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3)).double()
    assert messages(model, features(), caplog) == []


class Tied(nn.Module):
    """A weight of two layers that is read without a call as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.second(self.first(inputs).tanh())) * self.first.weight.sum().cos()


def test_the_whole_model_is_differentiated(caplog: pytest.LogCaptureFixture) -> None:
    way = "by differentiating the whole model, all examples of a batch at once"
    assert messages(seeded(Tied), features(), caplog) == [f"gradients of first.weight: {way} (several modules hold it)"]


def test_a_module_is_run_again(caplog: pytest.LogCaptureFixture) -> None:
    (message,) = messages(seeded(lambda: MixtureClassifier(Mixture())), features(), caplog)
    assert message.startswith("gradients of mixture.experts.0.weight, mixture.experts.0.bias, ")
    assert message.endswith(
        "mixture.experts.3.bias: by running a Mixture again, one example at a time (torch.func.vmap cannot follow it)"
    )


def test_batches_that_differ_from_the_first(caplog: pytest.LogCaptureFixture) -> None:
    (message,) = messages(seeded(Chunked), features(), caplog)
    assert message == (
        "gradients of layer.weight, layer.bias: one example at a time in some batches "
        "(the model uses them there otherwise than in its first batch)"
    )


def test_parameters_that_rested(caplog: pytest.LogCaptureFixture) -> None:
    inputs = features()
    inputs[:, 0] = 0
    inputs[11, 0] = 0.1
    assert messages(seeded(Branching), inputs, caplog) == [
        "gradients of experts.1.weight, experts.1.bias, experts.2.weight, experts.2.bias: zero where no example reaches them "
        "(none of the first batch does)",
        "gradients of experts.1.weight, experts.1.bias: one example at a time in some batches "
        "(no example of the first batch reaches them)",
    ]


def test_many_names_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    report_fallback([f"p{i}" for i in range(10)], "slowly", "reasons")
    report_fallback([f"p{i}" for i in range(10)], "slowly", "reasons")
    report_fallback(["p0"], "slowly", "reasons")
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "gradients of p0, p1, p2, p3, p4, p5, p6, p7 and 2 more: slowly (reasons)"
    assert second == "gradients of p0: slowly (reasons)"


def test_numbers_do_not_depend_on_what_is_said() -> None:
    model, inputs = seeded(Tied), features()
    rows = [plan_gradients(model, inputs).rows(inputs, labels_of(inputs), cross_entropy_loss).dense() for _ in range(2)]
    assert torch.equal(*rows)
