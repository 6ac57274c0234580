"""What a model's forward pass does that decides how its gradients may be taken: seen in one pass over few examples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tda.gradients.evaluation_mode import evaluation
from tda.system.errors import UserError, first_line
from tda.system.inputs import Inputs, call, chosen, count_of, mapped, parts_of

_READING_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

_REORDERING = (
    "sort", "msort", "topk", "kthvalue", "index", "index_select", "gather", "take", "index_put", "index_put_", "index_add",
    "index_add_", "index_copy", "index_copy_", "scatter", "scatter_", "scatter_add", "scatter_add_", "masked_scatter",
    "_pack_padded_sequence",
)  # fmt: skip
"""Operators that put entries where the data say."""

_READING_METHODS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)

_REPETITIONS = 8
"""Calls of a model that draws random numbers, to see whether they matter."""

_TENSOR_FLOAT_EPSILON = 2.0**-10
"""Relative precision of matrix products on a GPU in the format that torch may take for float32."""


@dataclass(frozen=True)
class ForwardPass:
    """What was seen.

    reads: whether Python or a result's shape may depend on values, so that other data may take another course; reorders:
    whether entries are put where the data say; draws: whether random numbers are drawn; epsilon: relative precision of the
    least precise numbers on the way.
    """

    reads: bool
    reorders: bool
    draws: bool
    epsilon: float

    @property
    def data_dependent(self) -> bool:
        """Whether the data decide what is done to a batch."""
        return self.reads or self.reorders

    @property
    def gradient_tolerance(self) -> float:
        """Largest relative difference between two ways to the same gradient: 1e-3 in float32, 0.05 in 16 bits."""
        return min(3 * self.epsilon**0.5, 0.05)

    @property
    def output_tolerance(self) -> float:
        """Largest difference between two ways to the same output, relative to the largest: 3e-4 in float32, 0.03 in 16 bits."""
        return min(self.epsilon**0.5, 0.03)


def inspected(model: nn.Module, run: Callable[[], object]) -> ForwardPass:
    """Watch a forward pass of the model, or of a module of it."""
    methods, operators = _Methods(), _Operators()
    with evaluation(model, differentiable=()):
        try:
            with methods, operators:
                run()
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # What cannot be watched, such as compiled code, may do anything; if the model itself fails, it will again.
            return ForwardPass(True, True, True, operators.epsilon)
    return ForwardPass(methods.reads or operators.reads, operators.reorders, operators.draws, operators.epsilon)


def refuse_changing_outputs(model: nn.Module, inputs: Inputs, forward: ForwardPass) -> None:
    """Raise UserError where an example's output depends on chance or on the other examples of its batch.

    inputs: of two examples or more, of which the first differs from another.
    """
    tolerance, last = forward.output_tolerance, count_of(inputs) - 1
    with evaluation(model, differentiable=()):
        together, alone = call(model, inputs), _output_alone(model, inputs, 0)
        again = [call(model, inputs) for _ in range(_REPETITIONS if forward.draws else 1)]
        if any(_differ(each, together, tolerance) for each in again):
            raise UserError(
                "the model's output for the same examples changes from call to call, although the model is in evaluation mode; "
                "a dropout that is always on would do that: switch off what is random"
            )
        others = _output_alone(model, inputs, last)
        if _differ(together[:1], alone, tolerance) or _differ(together[last:], others, tolerance):
            raise company_error()
        if _minds_larger_company(model, inputs, tolerance):
            raise company_error()


def _minds_larger_company(model: nn.Module, inputs: Inputs, tolerance: float) -> bool:
    """Whether the first example's output is another alone, where it has half of its values and the others have theirs.

    Images may all have the same largest value, by which a model that scales a batch by its own would not be found out. Halves
    stay in the range of what a model may take for a place in a table.
    """
    smaller = mapped(inputs, lambda part: torch.cat([part[:1] / 2, part[1:]]) if part.is_floating_point() else part)
    try:
        return _differ(call(model, smaller)[:1], _output_alone(model, smaller, 0), tolerance)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # A model need not take such values.
        return False


def _output_alone(model: nn.Module, inputs: Inputs, position: int) -> Tensor:
    try:
        return call(model, chosen(inputs, slice(position, position + 1)))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = first_line(error)
        raise UserError(
            f"the model cannot process a single example ({reason}), so that no example has a gradient of its own; a "
            "normalisation over the batch would do that, or squeeze() on a batch of one"
        ) from error


def company_error() -> UserError:
    """The refusal of a model that mixes the examples of a batch."""
    return UserError(
        "the model's output for an example depends on the other examples of its batch, so that no example has a gradient of "
        "its own; a normalisation over the batch would do that: take fixed statistics, or normalise each example alone"
    )


def refuse_mixing_of_alike(model: nn.Module, example: Inputs, forward: ForwardPass) -> None:
    """The same where all examples are alike, with a reversed copy of one for company, if the model takes that."""
    with_copy = mapped(example, lambda part: torch.cat([part, _reversed(part)]))
    try:
        refuse_changing_outputs(model, with_copy, forward)
    except UserError:
        raise
    except Exception:
        return


def distinct_pair(inputs: Inputs) -> tuple[int, int] | None:
    """Positions of two examples that differ, the first and one of the last; None where 16 spread ones are all alike."""
    for position in reversed(spread(count_of(inputs), 16)):
        if any(not torch.equal(part[0], part[position]) for part in parts_of(inputs)):
            return 0, position
    return None


def spread(count: int, most: int) -> list[int]:
    """At most so many positions among `count`, evenly spaced, the first and the last among them."""
    places = min(count, most)
    return [place * (count - 1) // max(1, places - 1) for place in range(places)]


def _reversed(example: Tensor) -> Tensor:
    turned = example.flip(list(range(1, example.dim())))
    return turned * 0.75 + 0.25 if turned.is_floating_point() else turned


def _differ(left: Tensor, right: Tensor, tolerance: float) -> bool:
    if left.shape != right.shape:
        return True
    # What is no number, as the logit of a class that is masked, is not compared.
    known = left.isfinite() & right.isfinite()
    if not known.any():
        return False
    return bool((left - right)[known].abs().max() > tolerance * right[known].abs().max())


class _Methods(TorchFunctionMode):
    """Notes where values leave torch."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = False

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        self.reads = self.reads or function in _READING_METHODS
        return function(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    """Notes operators that read, reorder or draw, and the precision of what they put out."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.reorders = self.draws = False
        self.epsilon = torch.finfo(torch.float64).eps

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To keep its compiler off this method torch would import it, a second of every process that scores. A compiled model
        # runs uncompiled under a mode, and so nothing compiles this.
        return False

    def __torch_dispatch__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name == "index":
            # Only a mask gives a result whose shape the data decide.
            self.reads = self.reads or any(
                isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
            )
        else:
            self.reads = self.reads or bool(_READING_TAGS & set(function.tags))
        self.reorders = self.reorders or name in _REORDERING
        self.draws = self.draws or torch.Tag.nondeterministic_seeded in function.tags
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                self.epsilon = max(self.epsilon, _epsilon(leaf))
        return result


def _epsilon(tensor: Tensor) -> float:
    # Not by allow_tf32, which raises where a program chose by fp32_precision.
    chosen = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    rounded = tensor.is_cuda and any(operators.fp32_precision == "tf32" for operators in chosen)
    return max(torch.finfo(tensor.dtype).eps, _TENSOR_FLOAT_EPSILON if rounded and tensor.dtype == torch.float32 else 0)
