"""The textbook's differentiation through a training: every state is kept, and every step differentiated by double backward."""

import torch
from torch import Tensor
from torch.func import functional_call

from tda.models.model_state import trained_parameters
from tda.training.step_noise import StepNoise
from tda.training.taken_steps import Training

_BETA1, _BETA2 = 0.9, 0.999


def derivatives(training: Training, test) -> Tensor:
    """d loss(test) / d weight (n_train,) of one test example, for Adam with epsilon inside the root and SGD with momentum."""
    names = list(trained_parameters(training.model))
    state = [training.run.start.parameters[name].to(training.train.device).clone() for name in names]
    copies = 2 if training.plan.momentum is not None else 3
    state += [torch.zeros_like(each) for _ in range(copies - 1) for each in state[: len(names)]]
    weights, states = torch.ones(len(training.train), device=training.train.device), []
    for number in range(len(training.run.batches)):
        states.append(state)
        state = [each.detach() for each in _step(training, names, number, _leaves(state), weights, create_graph=False)]
    adjoints = _slope(training, names, state, test) + [torch.zeros_like(each) for each in state[len(names) :]]
    found = torch.zeros_like(weights)
    for number in reversed(range(len(states))):
        before, own = _leaves(states[number]), weights.clone().requires_grad_()
        after = _step(training, names, number, before, own, create_graph=True)
        product = sum((one * other).sum() for one, other in zip(after, adjoints, strict=True))
        *adjoints, slope = torch.autograd.grad(product, [*before, own], materialize_grads=True)
        found += slope
    return found


def _leaves(state: list[Tensor]) -> list[Tensor]:
    return [each.detach().requires_grad_() for each in state]


def _slope(training: Training, names: list[str], state: list[Tensor], test) -> list[Tensor]:
    parameters = _leaves(state[: len(names)])
    logits = functional_call(training.model.eval(), dict(zip(names, parameters, strict=True)), (test.inputs,))
    return list(torch.autograd.grad(training.objective.loss(logits, test.labels).sum(), parameters))


def _step(
    training: Training, names: list[str], number: int, state: list[Tensor], weights: Tensor, create_graph: bool
) -> list[Tensor]:
    """The state after a step: the parameters, and what the optimizer remembers of them."""
    plan, batch = training.plan, training.run.batches[number]
    count, train = len(names), training.train
    parameters, remembered = state[:count], state[count:]
    with StepNoise(training.run.seed, number + 1, plan.random_crop, plan.mixed_precision).applied_to(
        training.model, train.device
    ):
        logits = functional_call(training.model.train(), dict(zip(names, parameters, strict=True)), (train.inputs[batch],))
    loss = (training.objective.loss(logits, train.labels[batch]) * weights[batch]).sum() / len(batch)
    gradients = torch.autograd.grad(loss, parameters, create_graph=create_graph)
    totals = [slope + plan.weight_decay * each for slope, each in zip(gradients, parameters, strict=True)]
    if plan.momentum is not None:
        buffers = [plan.momentum * buffer + total for buffer, total in zip(remembered, totals, strict=True)]
        return [each - plan.learning_rate * buffer for each, buffer in zip(parameters, buffers, strict=True)] + buffers
    first, second = 1 - _BETA1 ** (number + 1), 1 - _BETA2 ** (number + 1)
    pairs = zip(remembered[:count], remembered[count:], totals, strict=True)
    moments = [
        (_BETA1 * mean + (1 - _BETA1) * total, _BETA2 * square + (1 - _BETA2) * total**2) for mean, square, total in pairs
    ]
    moved = [
        each - plan.learning_rate * mean / first / (square / second + plan.adam_epsilon_inside).sqrt()
        for each, (mean, square) in zip(parameters, moments, strict=True)
    ]
    return moved + [mean for mean, _ in moments] + [square for _, square in moments]
