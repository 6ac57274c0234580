"""What the dropout layers of stacked models are given: the numbers that each model would draw if it were trained alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tda.training.runs import Run
from tda.training.step_noise import StepNoise, drawing_from


class StackedNoise:
    """Numbers in [0, 1) for every call of a SeededDropout, in the order of the calls, in buffers that a graph can read.

    numbers: tensors (b, ...), which all models share where their runs draw the same, as those of one seed do from which single
    examples are removed, else (M, b, ...).
    """

    def __init__(self, shapes: Sequence[torch.Size], runs: Sequence[Run], device: torch.device) -> None:
        self.shared = draw_the_same(runs)
        first = () if self.shared else (len(runs),)
        # Until a step draws, everything is kept.
        self.numbers = [torch.ones(*first, *shape, device=device) for shape in shapes]
        self.device = device

    def draw(self, runs: Sequence[Run], step: int) -> None:
        """Fill the buffers with what the runs draw at a step, counted from 1; places that pad a batch keep what they had."""
        for number, run in enumerate(runs[:1] if self.shared else runs):
            generator = StepNoise(run.seed, step).dropout_generator(self.device)
            size = len(run.batches[step - 1])
            for buffer in self.numbers:
                own = buffer if self.shared else buffer[number]
                own[:size] = torch.rand((size, *own.shape[1:]), generator=generator, device=self.device)


def draw_the_same(runs: Sequence[Run]) -> bool:
    """Whether the runs are of one seed and of batches of the same sizes."""
    return len({(run.seed, *map(len, run.batches)) for run in runs}) == 1


def called_shapes(model: nn.Module, forward: Callable[[], object]) -> list[torch.Size]:
    """Shapes of the inputs of every call of a SeededDropout during `forward`, in order."""
    shapes = []

    def record(shape: torch.Size, device: torch.device) -> Tensor:
        shapes.append(shape)
        return torch.ones(shape, device=device)

    with drawing_from(model, record), torch.no_grad():
        forward()
    return shapes
