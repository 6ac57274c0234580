"""Random small networks with what they are given: inputs of a kind, dtype, frozen parameters, a cut into batches."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from random_architectures import LENGTH, SHAPES, TOKENS, Network, Step, flags, steps
from torch import Tensor, nn

ODD_CONVOLUTIONS = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]
"""Marks of a module whose networks torch warns about."""

REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
"""The same cases in every run, however long they take."""


@dataclass(frozen=True)
class Case:
    """A network and what it is given.

    frozen: of every so many parameters one is frozen, none for 0; block_size: examples in a pass; far: whether plans are made
    for many examples, which changes the forms; alike: how many of the first examples are the same.
    """

    kind: str
    steps: list[Step]
    seed: int
    count: int
    block_size: int
    dtype: torch.dtype
    quantity: str
    frozen: int
    far: bool
    alike: int
    channels_last: bool
    training: bool

    def network(self) -> nn.Module:
        """The network in evaluation or training mode, its parameters far from where they start."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = Network(self.kind, self.steps).to(self.dtype)
            for name, buffer in network.named_buffers():
                if "running" in name:
                    buffer.copy_(torch.rand_like(buffer.float()) + 0.5)
            for number, parameter in enumerate(network.parameters()):
                parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
                parameter.requires_grad_(not self.frozen or number % self.frozen != 0)
        network.head.weight.requires_grad_()
        normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
        if self.channels_last and self.kind == "images":
            network.to(memory_format=torch.channels_last)
        return network.train(self.training and not normalised)

    def inputs(self) -> Tensor | dict[str, Tensor]:
        """A tensor, or token ids with a mask."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.kind == "tokens":
            ids = torch.randint(TOKENS, (self.count, LENGTH), generator=generator)
            lengths = torch.randint(1, LENGTH + 1, (self.count, 1), generator=generator)
            ids[: self.alike], lengths[: self.alike] = ids[0], lengths[0]
            return {"input_ids": ids, "mask": (torch.arange(LENGTH) < lengths).long()}
        inputs = torch.randn(self.count, *SHAPES[self.kind], generator=generator)
        inputs[: self.alike] = inputs[0].clone()
        if self.channels_last and self.kind == "images":
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs.to(self.dtype)


def cases() -> st.SearchStrategy[Case]:
    """Any of them."""
    return st.builds(
        Case,
        kind=st.sampled_from(list(SHAPES)),
        steps=st.lists(steps, min_size=1, max_size=5),
        seed=st.integers(0, 10**6),
        count=st.integers(2, 8),
        block_size=st.integers(1, 8),
        dtype=st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16]),
        quantity=st.sampled_from(["loss", "margin", "logits", "roots"]),
        frozen=st.sampled_from([0, 0, 2, 3]),
        far=flags,
        alike=st.sampled_from([0, 0, 2, 8]),
        channels_last=flags,
        training=flags,
    )
