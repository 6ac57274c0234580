"""On which GPU the step of stacked models is recorded, where there are two."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from tda.training.stacked_models import _Stack

FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")


def test_a_step_is_recorded_on_the_gpu_of_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.cuda takes the first where no other is named, and then records nothing of what the second computes."""
    current, computed = [FIRST], []

    class Stream:
        def __init__(self, device: torch.device = FIRST) -> None:
            self.device = device

        def wait_stream(self, other: "Stream") -> None:
            assert other.device == self.device

    @contextlib.contextmanager
    def within(stream: Stream) -> Iterator[None]:
        current.append(stream.device)
        yield
        current.pop()

    streams = {"Stream": Stream, "current_stream": Stream, "stream": within, "CUDAGraph": object}
    graphs = {"graph": lambda graph, stream=None: within(stream or Stream())}
    stack = object.__new__(_Stack)
    stack.train, stack._compute = SimpleNamespace(device=SECOND), lambda: computed.append(current[-1])
    with monkeypatch.context() as two_gpus:
        two_gpus.setattr(torch, "cuda", SimpleNamespace(**streams, **graphs))
        stack._capture()
    assert set(computed) == {SECOND} and stack.graph is not None
