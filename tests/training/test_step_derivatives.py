"""Derivatives of optimizer steps: adjoints are the transposes of tangents, and tangents those of torch's own optimizers."""

import pytest
import torch
from torch import Tensor

from tda.models.training_plan import TrainingPlan
from tda.training.step_derivatives import Movement, StepDerivative, still

PLANS = {
    "Adam": TrainingPlan(epochs=1, weight_decay=0.1),
    "decoupled": TrainingPlan(epochs=1, learning_rate=0.01, weight_decay=2.0, decoupled_decay=True),
    "decoupled and clipped": TrainingPlan(epochs=1, weight_decay=2.0, decoupled_decay=True, gradient_clipping=0.5),
    "epsilon inside": TrainingPlan(epochs=1, adam_epsilon_inside=1e-3),
    "clipped": TrainingPlan(epochs=1, gradient_clipping=0.5, weight_decay=0.1),
    "momentum": TrainingPlan(epochs=1, momentum=0.9, weight_decay=0.1),
    "clipped momentum": TrainingPlan(epochs=1, momentum=0.9, gradient_clipping=0.5),
}
SHAPES = {"weight": (3, 2), "bias": (3,)}


def values(*leading: int) -> dict[str, Tensor]:
    return {name: torch.randn(*leading, *shape).double() for name, shape in SHAPES.items()}


def taken(plan: TrainingPlan, before: dict, remembered: dict, gradient: dict, number: int) -> tuple[dict, dict]:
    """Parameters and what is remembered after a step of the plan's own optimizer."""
    parameters = {name: value.clone().requires_grad_() for name, value in before.items()}
    optimizer = plan.optimizer(parameters.values())
    for name, parameter in parameters.items():
        parameter.grad = gradient[name].clone()
        optimizer.state[parameter].update({quantity: each[name].clone() for quantity, each in remembered.items()})
        if plan.momentum is None:
            optimizer.state[parameter]["step"] = torch.tensor(float(number - 1))
    optimizer.step()
    after = {quantity: {name: optimizer.state[each][quantity] for name, each in parameters.items()} for quantity in remembered}
    return {name: parameter.detach() for name, parameter in parameters.items()}, after


def example(plan: TrainingPlan) -> tuple[dict, dict, dict, int]:
    """Parameters, what is remembered, a gradient and the number of a step in the middle of a training."""
    remembered = {"momentum_buffer": values()} if plan.momentum is not None else {"exp_avg": values(), "exp_avg_sq": values()}
    if plan.momentum is None:
        remembered["exp_avg_sq"] = {name: each.square() for name, each in remembered["exp_avg_sq"].items()}
    return values(), remembered, values(), 7


def derivative_of(plan: TrainingPlan, before: dict, remembered: dict, gradient: dict, number: int) -> StepDerivative:
    _, after = taken(plan, before, remembered, gradient, number)
    return StepDerivative(plan, gradient, before, {} if plan.momentum is not None else after, number, plan.learning_rate)


def moved_by(remembered: dict, count: int) -> Movement:
    return Movement(values(count), {quantity: values(count) for quantity in remembered})


@pytest.mark.parametrize("name", PLANS)
def test_tangents_are_differences_of_the_optimizers_steps(name: str):
    plan, change = PLANS[name], 1e-6
    before, remembered, gradient, number = example(plan)
    moved, slopes = moved_by(remembered, 1), values(1)

    def at(sign: int) -> tuple[dict, dict]:
        def shifted(start: dict, tangent: dict) -> dict:
            return {name: start[name] + sign * change * tangent[name][0] for name in start}

        shifted_memory = {each: shifted(remembered[each], moved.remembered[each]) for each in remembered}
        return taken(plan, shifted(before, moved.parameters), shifted_memory, shifted(gradient, slopes), number)

    (above, memory_above), (below, memory_below) = at(1), at(-1)
    derivative_of(plan, before, remembered, gradient, number).forward(
        moved, {name: slope.clone() for name, slope in slopes.items()}
    )
    for parameter in SHAPES:
        expected = (above[parameter] - below[parameter]) / (2 * change)
        torch.testing.assert_close(moved.parameters[parameter][0], expected, rtol=1e-6, atol=1e-9)
        for quantity in remembered:
            expected = (memory_above[quantity][parameter] - memory_below[quantity][parameter]) / (2 * change)
            torch.testing.assert_close(moved.remembered[quantity][parameter][0], expected, rtol=1e-6, atol=1e-9)


def inner(left: Movement, right: Movement) -> Tensor:
    """Inner products (k,) of tangents with adjoints."""
    pairs = [
        (left.parameters, right.parameters),
        *((left.remembered[each], right.remembered[each]) for each in left.remembered),
    ]
    return sum((mine[name] * other[name]).flatten(1).sum(1) for mine, other in pairs for name in SHAPES)


@pytest.mark.parametrize("name", PLANS)
def test_adjoints_are_the_transpose_of_tangents(name: str):
    plan = PLANS[name]
    before, remembered, gradient, number = example(plan)
    derivative = derivative_of(plan, before, remembered, gradient, number)
    tangents, adjoints, slopes = moved_by(remembered, 4), moved_by(remembered, 4), values(4)
    start = Movement(dict(tangents.parameters), dict(tangents.remembered))
    start.parameters = {name: each.clone() for name, each in tangents.parameters.items()}
    start.remembered = {q: {name: each.clone() for name, each in found.items()} for q, found in tangents.remembered.items()}
    derivative.forward(tangents, {name: slope.clone() for name, slope in slopes.items()})
    after = inner(tangents, adjoints)
    adjoints_of_slopes = derivative.backward(adjoints)
    by_slope = sum((slopes[name] * adjoints_of_slopes[name]).flatten(1).sum(1) for name in SHAPES)
    torch.testing.assert_close(inner(start, adjoints) + by_slope, after)


def test_a_parameter_without_any_gradient_stays_still():
    plan = TrainingPlan(epochs=1, weight_decay=0.0)
    zeros = {name: torch.zeros(shape).double() for name, shape in SHAPES.items()}
    moved = still(zeros, plan, 2)
    StepDerivative(plan, zeros, values(), {"exp_avg": zeros, "exp_avg_sq": zeros}, 1, 0.1).forward(
        moved, {name: torch.zeros(2, *shape).double() for name, shape in SHAPES.items()}
    )
    assert all((each == 0).all() for each in moved.parameters.values())
