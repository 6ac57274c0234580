"""Adam with epsilon inside the root against the textbook's recursion, and as a state that is kept and continued."""

import pytest
import torch
from torch import Tensor

from tda.models.adam_inside_root import AdamInsideRoot


def noisy_gradients(seed: int, shapes: list[tuple[int, ...]], steps: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    scales = [10.0 ** -(step % 5) for step in range(steps)]
    return [[scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for scale in scales]


def textbook(start: Tensor, gradients: list[Tensor], rate: float, epsilon: float, decay: float) -> Tensor:
    value, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient + decay * value
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        value = value - rate * (mean / (1 - 0.9**step)) / (square / (1 - 0.999**step) + epsilon).sqrt()
    return value


@pytest.mark.parametrize("capturable", [False, True])
def test_steps_are_those_of_the_recursion(capturable: bool):
    shapes = [(3, 4), (5,), ()]
    gradients = noisy_gradients(0, shapes, 30)
    starts = noisy_gradients(1, shapes, 1)[0]
    parameters = [torch.nn.Parameter(start.clone()) for start in starts]
    optimizer = AdamInsideRoot(parameters, lr=0.01, epsilon=1e-6, weight_decay=0.05, capturable=capturable)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for place, (start, parameter) in enumerate(zip(starts, parameters, strict=True)):
        expected = textbook(start, [step[place] for step in gradients], 0.01, 1e-6, 0.05)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-12, atol=1e-14)
    assert {name for state in optimizer.state.values() for name in state} == {"step", "exp_avg", "exp_avg_sq"}
    assert all(float(state["step"]) == 30 for state in optimizer.state.values())


def test_large_gradients_make_it_torchs_own():
    """Where epsilon is far below v_hat, it does not matter where it stands."""
    gradients = [torch.full((4,), value, dtype=torch.float64) for value in (3.0, -2.0, 5.0)]
    ours, theirs = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    pairs = ((ours, AdamInsideRoot([ours], lr=0.1, epsilon=1e-16)), (theirs, torch.optim.Adam([theirs], lr=0.1, eps=1e-8)))
    for parameter, optimizer in pairs:
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-7, atol=0)


def test_what_has_no_gradient_stays():
    first, second = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = AdamInsideRoot([first, second], lr=0.1, epsilon=1e-8)
    first.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(second.detach(), torch.ones(2)) and second not in optimizer.state
    torch.testing.assert_close(first.detach(), torch.full((2,), 0.9), rtol=1e-6, atol=0)
