"""How per-example gradients of a model are computed, chosen and proved once, and supervised from block to block.

Most models do the same to all examples of all batches, and a proof on two examples holds for all. Where the values of the data
decide what is computed (branches, early exits, experts, reordered batches), more examples are tried, each block is compared
with what was proved, and what differs is computed in a slower way.
"""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from tda.gradients.accounts import WRONG_ACCOUNT, Accounts, Probe, accounting, find_accounts
from tda.gradients.evaluation_mode import evaluation
from tda.gradients.example_by_example import rows_example_by_example
from tda.gradients.fallbacks import report_fallback
from tda.gradients.formed_rows import FormedRows
from tda.gradients.forward_inspection import (
    ForwardPass,
    distinct_pair,
    inspected,
    refuse_changing_outputs,
    refuse_mixing_of_alike,
)
from tda.gradients.gradient_rows import GradientRows, LayerRows, joined_rows
from tda.gradients.layer_rows import has_formula, recorded_rows
from tda.gradients.layers import Layer, NotPerExampleError
from tda.gradients.probing import mirrored_probe, probe_of
from tda.gradients.quantities import Quantity
from tda.gradients.recorded_pass import Recording, record_calls
from tda.gradients.selected_parameters import refuse_batch_statistics, refuse_opaque, selected_shapes
from tda.gradients.single_precision import Follower, in_single_precision, outside_inference, without_autocast
from tda.gradients.spot_check import EXAMPLES_A_GRADIENT, SpotCheck, reached
from tda.gradients.whole_model import looped_gradients, refuse_reentrant_checkpoints, vectorized_gradients
from tda.system.errors import UserError, first_line
from tda.system.inputs import Inputs, batches_of, call, chosen, count_of, device_of
from tda.system.padding import in_groups

BLOCK_SIZE = 128
"""Examples in a pass, where their gradients fit: enough for the processor's kernels, few enough for its cache."""


@dataclass
class Supervision:
    """What a plan remembers from block to block.

    seen: how many examples it has seen; compared: how many at the last comparison of a gradient with that of an example alone;
    unproved: names whose gradient no example was seen to have; wrong: layers that turned out not to account for theirs;
    of_any_length: whether a quantity gives as many values for a text however long its padding is.
    """

    seen: int = 0
    compared: int = -EXAMPLES_A_GRADIENT
    unproved: set[str] = field(default_factory=set)
    wrong: list[Layer] = field(default_factory=list)
    of_any_length: dict[Quantity, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class GradientPlan:
    """How per-example gradients of a model are computed.

    model: in evaluation mode, in float32 where the one it was made for is in 16 bits (a copy that follows it); shapes: selected
    parameter name -> shape, in the model's order; layers: modules that account for their parameters; whole_model: names that
    only a differentiation of the whole model for each example gets right; vectorized: whether torch.func.vmap can do that, or a
    loop must; resting: names that no example of the probe reached, whose gradients are zero unless a block reaches them. A plan
    stays valid when the parameters' values change.
    """

    follower: Follower
    shapes: dict[str, torch.Size]
    layers: list[Layer]
    whole_model: list[str]
    vectorized: bool
    resting: list[str]
    forward: ForwardPass
    supervision: Supervision = field(repr=False)

    @property
    def model(self) -> nn.Module:
        """The model that is computed with."""
        return self.follower.model

    @cached_property
    def _accounting(self) -> dict[nn.Module, list[nn.Parameter]]:
        return accounting(self.layers)

    @cached_property
    def _spread(self) -> list[nn.Module]:
        return [layer.module for layer in self.layers if layer.spread]

    @cached_property
    def _watched(self) -> dict[str, nn.Parameter]:
        return {name: self.model.get_parameter(name) for name in (*_names(self.layers), *self.resting)}

    def block_rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> GradientRows:
        """Gradients of a block of examples that fits in memory at once.

        Raises UserError if an example's output turns out to depend on the other examples of its batch or on chance.
        """
        self.follower.refresh()
        inputs, labels = in_single_precision(inputs), outside_inference(labels)
        with without_autocast(device_of(inputs)):
            found = self._rows_in_groups(inputs, labels, quantity)
            if self._finds_wrong_layers(found, inputs, labels, quantity):
                found = self._rows_in_groups(inputs, labels, quantity)
        self._check(found, inputs, labels, quantity)
        return found

    def rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity, block_size: int | None = None) -> GradientRows:
        """Gradients of the quantity for all examples, held at once; block_size examples in a pass, by default BLOCK_SIZE."""
        return joined_rows(list(self.streamed(inputs, labels, quantity, block_size or BLOCK_SIZE)))

    def example_bytes(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> int:
        """Memory that the gradients of one of the examples hold, at most where examples may differ in that."""
        self.follower.refresh()
        one = in_single_precision(chosen(inputs, slice(0, 1)))
        with without_autocast(device_of(one)):
            # With its padding, for others may have none.
            rows = self._block_rows(one, outside_inference(labels[:1]), quantity)
        if not self.forward.data_dependent:
            return rows.size_in_bytes()
        held = {name for layer in rows.layers if isinstance(layer, FormedRows) for name in layer.parts}
        absent = (self.shapes[name].numel() for name in (*self.whole_model, *self.resting) if name not in held)
        return rows.size_in_bytes() + sum(absent) * rows.count * rows.values.element_size()

    def streamed(self, inputs: Inputs, labels: Tensor, quantity: Quantity, block_size: int) -> Iterator[GradientRows]:
        """The same, a block after another."""
        pairs = zip(batches_of(inputs, block_size), labels.split(block_size), strict=True)
        return (self.block_rows(*pair, quantity) for pair in pairs)

    def _rows_in_groups(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> GradientRows:
        """Texts of similar length together, without their padding, where the model ignores it; others all at once."""
        groups = in_groups(self.model, inputs, labels)
        if not groups or not self._is_of_any_length(inputs, labels, quantity):
            return self._block_rows(inputs, labels, quantity)
        blocks = [self._block_rows(*of_group, quantity) for _, *of_group in groups]
        order = torch.cat([positions for positions, *_ in groups]).argsort()
        return joined_rows(blocks, order) if len(blocks) > 1 else blocks[0]

    def _is_of_any_length(self, inputs: dict[str, Tensor], labels: Tensor, quantity: Quantity) -> bool:
        """Whether the quantity has as many values for shorter texts: a root of the curvature for each token has not."""
        known = self.supervision.of_any_length
        if quantity not in known:
            one = {name: part[:1] for name, part in inputs.items()}
            if any(part.shape[1] < 2 for part in one.values()):
                return False
            shorter = {name: part[:, :-1] for name, part in one.items()}
            with evaluation(self.model, ()), torch.no_grad():
                whole = quantity(call(self.model, one), labels[:1])
                cut = quantity(call(self.model, shorter), labels[:1, :-1] if labels.dim() == 2 else labels[:1])
            known[quantity] = whole.shape == cut.shape
        return known[quantity]

    def _block_rows(self, inputs: Inputs, labels: Tensor, quantity: Quantity) -> GradientRows:
        recording = record_calls(self.model, self._accounting, inputs, labels, quantity, self._watched, self._spread)
        rows = [self._layer_rows(layer, recording, count_of(inputs)) for layer in self.layers]
        self._replace_missing(rows, inputs, labels, quantity)
        if self.whole_model or self.resting:
            awake = [name for name in self.resting if name in recording.outside]
            rows.append(self._whole_model_rows(awake, inputs, labels, quantity, recording.values.numel()))
        return GradientRows(rows, recording.values, self.shapes)

    def _layer_rows(self, layer: Layer, recording: Recording, count: int) -> LayerRows | None:
        """The layer's rows, or None where the block used its parameters in a way that was not proved."""
        if layer in self.supervision.wrong or any(name in recording.outside for name in layer.parameters.values()):
            return None
        for way in (layer, replace(layer, vectorized=False)):
            try:
                return recorded_rows(way, recording, count)
            except (torch.OutOfMemoryError, UserError):
                raise
            except NotPerExampleError:
                return None
            except Exception as error:
                # Run again for all examples at once, a module may come to a branch that only single examples can take.
                if has_formula(layer):
                    raise
                if not way.vectorized:
                    return None
                report_fallback(layer.parameters.values(), "one example at a time in some batches", first_line(error))

    def _replace_missing(self, rows: list, inputs: Inputs, labels: Tensor, quantity: Quantity) -> None:
        missing = [place for place, layer in enumerate(rows) if layer is None]
        if not missing:
            return
        layers = [self.layers[place] for place in missing]
        otherwise = [layer for layer in layers if layer not in self.supervision.wrong]
        if otherwise:
            report_fallback(
                _names(otherwise),
                "one example at a time in some batches",
                "the model uses them there otherwise than in its first batch",
            )
        slower = rows_example_by_example(self.model, layers, self.supervision.wrong, inputs, labels, quantity)
        for place, found in zip(missing, slower, strict=True):
            rows[place] = found

    def _whole_model_rows(self, awake: list[str], inputs: Inputs, labels: Tensor, quantity: Quantity, count: int) -> FormedRows:
        if awake:
            report_fallback(awake, "one example at a time in some batches", "no example of the first batch reaches them")
        names = [*self.whole_model, *awake]
        gradients = self._differentiated(names, inputs, labels, quantity) if names else {}
        rows = FormedRows.of_gradients(gradients, count)
        return replace(rows, shapes={name: self.shapes[name] for name in (*self.whole_model, *self.resting)})

    def _differentiated(self, names: list[str], inputs: Inputs, labels: Tensor, quantity: Quantity) -> dict[str, Tensor]:
        if self.vectorized:
            try:
                return vectorized_gradients(self.model, names, inputs, labels, quantity)
            except (torch.OutOfMemoryError, UserError):
                raise
            except Exception:
                report_fallback(names, "one example at a time in some batches", "torch.func.vmap cannot follow the model there")
        return looped_gradients(self.model, names, inputs, labels, quantity)

    def _finds_wrong_layers(self, rows: GradientRows, inputs: Inputs, labels: Tensor, quantity: Quantity) -> bool:
        """Prove what no earlier example reached; whether a layer's account was wrong, which is not used any more."""
        state, known = self.supervision, len(self.supervision.wrong)
        unproved = [
            (layer, of_layer, names)
            for layer, of_layer in zip(self.layers, rows.layers, strict=False)
            if layer not in state.wrong and (names := [name for name in layer.parameters.values() if name in state.unproved])
        ]
        if not unproved:
            return False
        layers, layer_rows, pending = map(list, zip(*unproved, strict=True))
        for layer, (position, names) in zip(layers, reached(rows, layer_rows, pending), strict=True):
            check = SpotCheck(self.model, rows, inputs, labels, quantity, position, self.forward)
            if names and check.wrong_gradients(names):
                state.wrong.append(layer)
                report_fallback(layer.parameters.values(), "one example at a time", WRONG_ACCOUNT)
            state.unproved.difference_update(names)
        return len(state.wrong) > known

    def _check(self, rows: GradientRows, inputs: Inputs, labels: Tensor, quantity: Quantity) -> None:
        """Compare an example with what it gives alone, where the data decide what the model does to a batch."""
        count, state = count_of(inputs), self.supervision
        if not self.forward.data_dependent or count == 1:
            return
        state.seen += count
        # Any place: what a model does to the first of a batch, the longest text perhaps, it need not do to the others.
        position = random.Random(state.seen).randrange(count)
        check = SpotCheck(self.model, rows, inputs, labels, quantity, position, self.forward)
        if state.seen - state.compared >= EXAMPLES_A_GRADIENT or state.seen < EXAMPLES_A_GRADIENT:
            state.compared = state.seen
            check.compare_gradient([*_names(self.layers), *self.whole_model, *self.resting])
        else:
            check.compare_value()


def plan_gradients(
    model: nn.Module, inputs: Inputs, parameters: Collection[str] | None = None, left_examples: int = 1, right_examples: int = 1
) -> GradientPlan:
    """Choose and prove how the model's per-example gradients are computed.

    inputs: of one or more examples, of which some serve as a probe; parameters: names, by default all that the model
    trains; left_examples, right_examples: between how many examples inner products will be taken, for the choice of forms.
    A model in 16 bits is computed in a float32 copy, 4 bytes a parameter. What is computed in a slower way than layer by layer
    is said in the log "tda".

    Raises UserError if a name is unknown, or if the model mixes the examples of a batch, depends on chance or hides its
    modules.
    """
    refuse_opaque(model)
    shapes = selected_shapes(model, parameters)
    refuse_batch_statistics(model)
    follower, pair = Follower(model), distinct_pair(inputs)
    model, two = follower.model, in_single_precision(chosen(inputs, list(pair or (0, 0))))
    forward = inspected(model, lambda: call(model, two))
    refuse_changing_outputs(model, two, forward)
    if pair is None:
        refuse_mixing_of_alike(model, chosen(two, slice(0, 1)), forward)
    probe = mirrored_probe(model, inputs, shapes, forward) if forward.data_dependent else probe_of(model, two, shapes, forward)
    # What the data may call is given to a module above; what nothing ever calls would only cost time there.
    names = list(shapes) if forward.data_dependent else [name for name in shapes if name in probe.expected]
    accounts = _found_accounts(probe, names, left_examples, right_examples)
    whole_model = [name for name in shapes if name in accounts.refused and name in probe.expected]
    resting = [name for name in shapes if name not in probe.expected and (name in accounts.refused or name not in names)]
    if resting:
        report_fallback(resting, "zero where no example reaches them", "none of the first batch does")
        refuse_reentrant_checkpoints(model, resting, probe.inputs, probe.labels)
    vectorized = bool(whole_model) and not forward.reads and _vectorization_is_right(probe, whole_model)
    _report(accounts, whole_model, vectorized)
    supervision = Supervision(unproved=probe.unproved(_names(accounts.layers)))
    return GradientPlan(follower, shapes, accounts.layers, whole_model, vectorized, resting, forward, supervision)


def _found_accounts(probe: Probe, names: list[str], left_examples: int, right_examples: int) -> Accounts:
    try:
        return find_accounts(probe, names, left_examples, right_examples)
    except (torch.OutOfMemoryError, UserError):
        raise
    except RuntimeError as error:
        # Of a model that maps a module by torch.func on its way nobody can keep what that module is given.
        reason = f"what its modules are given cannot be kept: {first_line(error)}"
        return Accounts(refused={name: reason for name in names})


def _names(layers: list[Layer]) -> list[str]:
    return [name for layer in layers for name in layer.parameters.values()]


def _vectorization_is_right(probe: Probe, names: list[str]) -> bool:
    try:
        found = vectorized_gradients(probe.model, names, probe.inputs, probe.labels, probe.quantity)
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception:
        return False
    return not probe.wrong(found)


def _report(accounts: Accounts, whole_model: list[str], vectorized: bool) -> None:
    """Say once what is computed in a slower way, for each reason."""
    way = "by differentiating the whole model, " + (
        "all examples of a batch at once" if vectorized else "one example at a time"
    )
    for reason in dict.fromkeys(accounts.refused[name] for name in whole_model):
        report_fallback([name for name in whole_model if accounts.refused[name] == reason], way, reason)
    for layer in accounts.layers:
        if not layer.vectorized:
            way = f"by running a {type(layer.module).__name__} again, one example at a time"
            report_fallback(layer.parameters.values(), way, "torch.func.vmap cannot follow it")
