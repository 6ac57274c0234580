"""What an optimizer multiplies gradients by, against the optimizer's own steps."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch

from tda.models.model_state import ModelState, read_state
from tda.models.training_plan import TrainingPlan
from tda.training.preconditioners import preconditioner


def test_adam_s_next_step_is_minus_rate_times_the_diagonal_times_the_first_moment():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    plan = TrainingPlan(epochs=1, learning_rate=0.01, weight_decay=0.0)
    optimizer = plan.optimizer(model.parameters())
    for step in range(1, 6):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.zero_grad()
        model(torch.randn(2, 4, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
        state = read_state(model, optimizer)
        diagonal = preconditioner(plan, state)
        for (name, parameter), old in zip(model.named_parameters(), before, strict=True):
            moment = state.optimizer["exp_avg"][name] / (1 - 0.9**step)
            torch.testing.assert_close(parameter.detach(), old - 0.01 * diagonal[name] * moment, rtol=1e-7, atol=1e-12)


def test_sgd_has_none():
    model = torch.nn.Linear(2, 2)
    assert preconditioner(TrainingPlan(epochs=1, momentum=0.9), read_state(model)) is None


@dataclass
class InsideRoot:
    """A plan whose optimizer has its epsilon inside the root."""

    momentum: None = None

    def optimizer(self, parameters: list[torch.Tensor]) -> SimpleNamespace:
        return SimpleNamespace(defaults={"betas": (0.9, 0.5), "epsilon": 0.25})


def test_epsilon_may_stand_inside_the_root():
    moments = {"weight": torch.tensor([0.0, 3.0])}
    state = ModelState({}, {}, {"exp_avg_sq": moments, "step": {"weight": torch.tensor(2.0)}})
    expected = 1 / (torch.tensor([0.0, 4.0]) + 0.25).sqrt()
    torch.testing.assert_close(preconditioner(InsideRoot(), state)["weight"], expected)


def test_moments_in_half_precision_are_divided_in_single():
    moments = {"weight": torch.tensor([1e-6, 3.0], dtype=torch.bfloat16)}
    state = ModelState({}, {}, {"exp_avg_sq": moments, "step": {"weight": torch.tensor(1.0)}})
    found = preconditioner(TrainingPlan(epochs=1), state)["weight"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, 1 / ((moments["weight"].float() * 1000).sqrt() + 1e-8), rtol=1e-5, atol=0)
