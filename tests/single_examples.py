"""Gradients of single examples by plain autograd, and models whose course depends on the data."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.gradients.gradient_kernel import gradient_kernel
from tda.gradients.gradient_plan import GradientPlan, plan_gradients
from tda.gradients.quantities import Quantity, all_logits, cross_entropy_loss
from tda.system.inputs import Inputs, chosen, count_of

CLASSES = 3
WIDTH = 6


def gradients_alone(
    model: nn.Module, inputs: Inputs, labels: Tensor, quantity: Quantity, names: list[str] | None = None
) -> Tensor:
    """Gradients (n * R, p) of one example after another, each given to the model in a copy; zero for what it does not reach."""
    names = [name for name, _ in model.named_parameters()] if names is None else names
    parameters, rows = [model.get_parameter(name) for name in names], []
    for i in range(len(labels)):
        example = chosen(inputs, slice(i, i + 1))
        output = (
            model(**{name: part.clone() for name, part in example.items()})
            if isinstance(example, dict)
            else model(example.clone())
        )
        logits = output["logits"] if isinstance(output, dict) else output
        for value in quantity(logits, labels[i : i + 1]).flatten():
            found = [None] * len(parameters)
            if value.requires_grad:
                found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            pairs = zip(found, parameters, strict=True)
            dense = [torch.zeros_like(parameter) if part is None else part.to_dense() for part, parameter in pairs]
            rows.append(torch.cat([part.flatten() for part in dense]))
    return torch.stack(rows)


def labels_of(inputs: Inputs) -> Tensor:
    """Classes in turn."""
    return torch.arange(count_of(inputs)) % CLASSES


def assert_gradients_are_those_alone(
    model: nn.Module,
    inputs: Inputs,
    names: list[str] | None = None,
    block_size: int = 7,
    quantities: tuple[Quantity, ...] = (cross_entropy_loss, all_logits),
    tolerance: float = 1e-9,
) -> GradientPlan:
    """Rows in blocks, and inner products between 4 examples and the others, against gradients of single examples."""
    model.eval()
    names = [name for name, _ in model.named_parameters()] if names is None else names
    labels = labels_of(inputs)
    plan = plan_gradients(model, inputs, names)
    for quantity in quantities:
        expected = gradients_alone(model, inputs, labels, quantity, names)
        rows = plan.rows(inputs, labels, quantity, block_size).dense(names)
        assert_close(rows, expected, tolerance)
        left, right = ((chosen(inputs, part), labels[part]) for part in (slice(0, 4), slice(4, None)))
        kernel = gradient_kernel(model, left, right, quantity, parameters=names, left_gram=True, block_size=block_size)
        held, streamed = expected.split([4 * len(expected) // len(labels), len(expected) - 4 * len(expected) // len(labels)])
        assert_close(kernel.cross, held @ streamed.T, tolerance)
        assert_close(kernel.left_gram, held @ held.T, tolerance)
        assert_close(kernel.right_norms, streamed.norm(dim=1), tolerance)
    return plan


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Entries equal but for rounding, of the size of the largest."""
    found, expected = found.detach(), expected.detach()
    torch.testing.assert_close(found.to(expected), expected, rtol=0, atol=tolerance * max(1e-6, float(expected.abs().max())))


def features(count: int = 18, seed: int = 0) -> Tensor:
    """(n, WIDTH) float64."""
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build: type[nn.Module], *arguments: object) -> nn.Module:
    """A model in float64 with reproducible parameters."""
    torch.manual_seed(0)
    return build(*arguments).double()


class Branching(nn.Module):
    """Experts of which a batch calls those that some example needs, on all of its examples."""

    def __init__(self, experts: int = 3) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(WIDTH, 5) for _ in range(experts))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        number = (inputs[:, 0] * 10).long().clamp(0, len(self.experts) - 1)
        out = inputs.new_zeros(len(inputs), 5)
        for i, expert in enumerate(self.experts):
            if (number == i).any():
                out = out + torch.tanh(expert(inputs)) * (number == i)[:, None]
        return self.head(out)


class Mixture(nn.Module):
    """Experts that are called with their own tokens only, (..., WIDTH) -> (..., WIDTH)."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(WIDTH, experts), nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(experts))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, WIDTH)
        gates, out = self.router(tokens).softmax(-1), torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            mine = (gates.argmax(-1) == i).nonzero().flatten()
            if len(mine):
                out = out.index_add(0, mine, expert(tokens[mine]) * gates[mine, i, None])
        return out.reshape(inputs.shape)


class MixtureClassifier(nn.Module):
    """A mixture between two layers, of features (n, WIDTH) or of tokens (n, T, WIDTH)."""

    def __init__(self, mixture: nn.Module) -> None:
        super().__init__()
        self.first, self.mixture, self.head = nn.Linear(WIDTH, WIDTH), mixture, nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        hidden = torch.tanh(self.mixture(hidden) + hidden)
        return self.head(hidden if hidden.dim() == 2 else hidden.mean(1))


class EarlyExit(nn.Module):
    """A second layer, with parameters of the model itself, for examples whose first feature is positive.

    subset: whether it is called with those examples alone, or with all if there is one such.
    """

    def __init__(self, subset: bool) -> None:
        super().__init__()
        self.subset = subset
        self.first, self.second, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.scale, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.tensor(0.1))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, further = torch.tanh(self.first(inputs)), inputs[:, 0] > 0
        if self.subset and further.any():
            hidden = hidden.clone()
            hidden[further] = self._second(hidden[further])
        elif further.any():
            hidden = torch.where(further[:, None], self._second(hidden), hidden)
        return self.head(hidden)

    def _second(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.second(hidden)) * self.scale + self.shift


class Borrowing(nn.Module):
    """Layers whose weights a branch reads again, without calling them, for examples with a large first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.embedding, self.head = nn.Linear(WIDTH, WIDTH), nn.Embedding(4, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.convolution, self.norm = nn.Conv1d(2, 4, 3, groups=2, padding=1), nn.LayerNorm(WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(inputs)) + self.embedding((inputs[:, 1] > 0).long())
        hidden = self.norm(hidden + self.convolution(inputs.unflatten(1, (2, 3))).flatten(1)[:, ::2])
        if (inputs[:, 0] > 1).any():
            again = torch.tanh(functional.linear(hidden, self.first.weight, self.first.bias)) * self.norm.weight
            again = again + self.embedding.weight.sum(0) * self.convolution.weight.sum() + self.convolution.bias.sum()
            hidden = torch.where((inputs[:, 0] > 1)[:, None], again, hidden)
        return self.head(hidden)


class HeadsByDomain(nn.Module):
    """A head for each domain, called with the examples of its domain; keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(WIDTH, WIDTH)
        self.heads = nn.ModuleDict({str(domain): nn.Linear(WIDTH, CLASSES) for domain in range(3)})

    def forward(self, features: Tensor, domains: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.body(features))
        logits = hidden.new_zeros(len(hidden), CLASSES)
        for domain in domains.unique().tolist():
            logits[domains == domain] = self.heads[str(domain)](hidden[domains == domain])
        return {"logits": logits}


class Adaptive(nn.Module):
    """One layer called as often as the example that needs most calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, left = inputs, (inputs[:, 0].abs() * 3).long()
        while (left > 0).any():
            hidden = torch.where((left > 0)[:, None], torch.tanh(self.layer(hidden)), hidden)
            left = left - 1
        return self.head(hidden)


class Sorting(nn.Module):
    """A layer that takes the batch in the order of a feature."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        order = inputs[:, 0].argsort()
        return self.head(torch.tanh(self.layer(inputs[order]))[order.argsort()])


class Chunked(nn.Module):
    """A layer that takes four examples at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.cat([torch.tanh(self.layer(part)) for part in inputs.split(4)]))
