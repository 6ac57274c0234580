"""What an optimizer multiplies gradients by, against the optimizer's own steps."""

import torch

from tda.models.model_state import read_state
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
