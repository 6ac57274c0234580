"""Which module accounts for which parameter of a model, proved on a few examples.

A parameter belongs to the module that holds it, if what goes in and comes out holds one entry for each example and the formula
gives what differentiating single examples gives. Else it goes to the module above, which is then run again on each example: an
attention whose output projection is read without being called, a block of experts that get tokens of their own, an encoder
whose positions are the same for all. What only the model itself could account for is left to the whole model.

Two things that most language models have are tried before that (shared_tables.py): a weight that an embedding and a linear
layer hold, and an embedding that is called once for all examples.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from tda.gradients.example_dimensions import example_dimensions
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.forward_inspection import ForwardPass, inspected
from tda.gradients.layer_rows import factored_is_cheaper, has_formula, recorded_rows
from tda.gradients.layers import Layer, NotPerExampleError
from tda.gradients.module_gradients import running_again
from tda.gradients.quantities import Quantity
from tda.gradients.recorded_pass import Recording, record_calls
from tda.gradients.shared_tables import spread_layers, tied_layers
from tda.gradients.tied_rows import TiedRows
from tda.system.errors import UserError
from tda.system.inputs import Inputs, chosen, count_of

WRONG_ACCOUNT = "its module's account of it is wrong"


@dataclass(frozen=True)
class Probe:
    """Examples on which accounts are proved.

    expected: parameter name -> gradients (n, *shape) of the quantity by differentiating single examples, for parameters that
    some example reaches; forward: what the model's forward pass does.
    """

    model: nn.Module
    inputs: Inputs
    labels: Tensor
    quantity: Quantity
    expected: dict[str, Tensor]
    forward: ForwardPass

    @cached_property
    def _total(self) -> float:
        """Norm of all expected gradients."""
        norms = [float(torch.linalg.vector_norm(gradient)) for gradient in self.expected.values()]
        return math.hypot(*norms)

    def wrong(self, found: dict[str, Tensor]) -> list[str]:
        """Parameters whose gradients are not those expected; what no example reaches must have zero."""
        wrong = []
        for name, gradient in found.items():
            target = self.expected.get(name)
            error = torch.linalg.vector_norm(gradient if target is None else gradient - target)
            size = 0 if target is None else torch.linalg.vector_norm(target)
            # A gradient that is zero but for rounding, such as that of an attention's key bias, can only be judged by others.
            rounding = 10 * torch.finfo(gradient.dtype).eps * self._total
            if not error <= self.forward.gradient_tolerance * size + rounding:
                wrong.append(name)
        return wrong

    def unproved(self, names: Collection[str]) -> set[str]:
        """Those whose expected gradients are all zero but for rounding: any account that gives zero is right there."""
        rounding = 10 * torch.finfo(next(iter(self.expected.values())).dtype).eps * self._total if self.expected else 0.0
        return {
            name for name in names if name not in self.expected or torch.linalg.vector_norm(self.expected[name]) <= rounding
        }

    def recorded(self, layers: list[Layer], names: list[str]) -> tuple[Recording, Recording]:
        """A pass over all examples and one over the first alone."""
        modules, watched = accounting(layers), {name: self.model.get_parameter(name) for name in names}
        spread = [layer.module for layer in layers if layer.spread]
        first = chosen(self.inputs, slice(0, 1))
        return (
            record_calls(self.model, modules, self.inputs, self.labels, self.quantity, watched, spread),
            record_calls(self.model, modules, first, self.labels[:1], self.quantity, watched, spread),
        )


@dataclass
class Accounts:
    """layers: with the parameters that they were proved right for; refused: parameter name -> why no module accounts for it."""

    layers: list[Layer] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def accounting(layers: list[Layer]) -> dict[nn.Module, list[nn.Parameter]]:
    """The layers' modules, each with the parameters that its calls account for."""
    modules: dict[nn.Module, list[nn.Parameter]] = {}
    for layer in layers:
        for module in (layer.module, *layer.others):
            modules.setdefault(module, []).extend(module.get_parameter(local) for local in layer.parameters)
    return modules


def find_accounts(probe: Probe, names: list[str], left_examples: int, right_examples: int) -> Accounts:
    """Give each named parameter to a module that is proved to account for it.

    left_examples, right_examples: between how many examples inner products will be taken, for the choice of forms.
    """
    accounts, first_reasons, rounds = Accounts(), {}, 0
    parents = {child: parent for parent in probe.model.modules() for child in parent.children()}
    pending, several = _owners(probe.model, names, accounts)
    tables = [*tied_layers(probe, several), *spread_layers(probe, pending)]
    for layer in tables:
        recording, _ = probe.recorded([layer], [])
        accounts.layers.append(_in_cheaper_form(probe, layer, recording, left_examples, right_examples))
    known = {name for layer in tables for name in layer.parameters.values()}
    accounts.refused |= {name: "several modules hold it" for name in several if name not in known}
    pending = {name: module for name, module in pending.items() if name not in known}
    while pending:
        rounds += 1
        layers = _layers(probe.model, pending)
        recordings = probe.recorded(layers, list(pending))
        climbing = {}
        for layer in layers:
            for proved in _proved(probe, layer, *recordings, climbing):
                accounts.layers.append(_in_cheaper_form(probe, proved, recordings[0], left_examples, right_examples))
        pending = {}
        for name, (module, reason) in climbing.items():
            # What kept the parameter from the module that holds it says more than what keeps it from one far above.
            first_reasons.setdefault(name, reason)
            parent = parents.get(module)
            if parent is None or parent is probe.model:
                accounts.refused[name] = first_reasons[name]
            else:
                pending[name] = parent
    order = {name: place for place, name in enumerate(names)}
    accounts.layers = _merged(accounts.layers, order)
    if rounds > 1 or tables:
        _prove_together(probe, accounts)
    accounts.layers.sort(key=lambda layer: min(map(order.get, layer.parameters.values())))
    return accounts


def _prove_together(probe: Probe, accounts: Accounts) -> None:
    """Refuse what was right in a pass that recorded fewer modules, and is not where all are recorded."""
    while True:
        recording, _ = probe.recorded(
            accounts.layers, [name for layer in accounts.layers for name in layer.parameters.values()]
        )
        pairs = [_split(probe, layer, recording) for layer in accounts.layers]
        accounts.layers = [right for right, _ in pairs if right.parameters]
        wrong = {name: WRONG_ACCOUNT for _, rest in pairs for name in rest.parameters.values()}
        accounts.refused |= wrong
        if not wrong:
            return


def _owners(model: nn.Module, names: list[str], accounts: Accounts) -> tuple[dict[str, nn.Module], dict[str, list[nn.Module]]]:
    """The module that holds each parameter, and the several that hold others; what the model itself holds is refused."""
    holders: dict[nn.Parameter, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(parameter, []).append(module)
    owners, several = {}, {}
    for name in names:
        first, *others = holders[model.get_parameter(name)]
        if others:
            several[name] = [first, *others]
        elif first is model:
            accounts.refused[name] = "no module but the model itself holds it"
        else:
            owners[name] = first
    return owners, several


def _layers(model: nn.Module, pending: dict[str, nn.Module]) -> list[Layer]:
    layers = []
    for module in dict.fromkeys(pending.values()):
        local_names = {parameter: local for local, parameter in module.named_parameters()}
        own = [name for name, holder in pending.items() if holder is module]
        layers.append(Layer(module, {local_names[model.get_parameter(name)]: name for name in own}))
    return layers


def _proved(
    probe: Probe, layer: Layer, together: Recording, alone: Recording, climbing: dict[str, tuple[nn.Module, str]]
) -> list[Layer]:
    """The layer, or several ways of it, with the parameters that it is right for; the others are added to `climbing`."""
    module = layer.module
    reason = "its module is not called"
    rest, found = layer, []
    if together.calls[module]:
        outside = {local: name for local, name in layer.parameters.items() if name in together.outside or name in alone.outside}
        climbing |= {name: (module, "it is used outside of its module") for name in outside.values()}
        rest = replace(layer, parameters={local: name for local, name in layer.parameters.items() if local not in outside})
        try:
            dimensions = example_dimensions(together.calls[module], alone.calls[module], count_of(probe.inputs))
        except NotPerExampleError as error:
            reason = f"its module {error}"
        else:
            reason = WRONG_ACCOUNT
            for vectorized in _ways(probe, layer, together):
                right, rest = _split(probe, replace(rest, dimensions=dimensions, vectorized=vectorized), together)
                found += [right] if right.parameters else []
    climbing |= {name: (module, reason) for name in rest.parameters.values()}
    return found


def _ways(probe: Probe, layer: Layer, recording: Recording) -> tuple[bool, ...]:
    """Whether to try the layer's module for all examples at once, for one after another, or first so and then so."""
    if has_formula(layer):
        return (True,)
    call = recording.calls[layer.module][0]
    run = running_again(layer, call)
    # What reads values cannot run for all examples at once; some of torch's operators do not even fail well then.
    if probe.forward.reads and inspected(layer.module, lambda: run({}, [tensor.clone() for tensor in call.inputs])).reads:
        return (False,)
    return (True, False)


def _split(probe: Probe, layer: Layer, recording: Recording) -> tuple[Layer, Layer]:
    """The layer with the parameters that come out as expected, and with the others."""
    wrong = list(layer.parameters.values())
    if wrong:
        try:
            found = recorded_rows(layer, recording, count_of(probe.inputs)).gradients()
        except (torch.OutOfMemoryError, UserError):
            raise
        except Exception:
            # A module that is run again is its author's code, and may raise anything.
            pass
        else:
            wrong = probe.wrong(found)
    right = {local: name for local, name in layer.parameters.items() if name not in wrong}
    return replace(layer, parameters=right), replace(
        layer, parameters={local: name for local, name in layer.parameters.items() if name in wrong}
    )


def _in_cheaper_form(probe: Probe, layer: Layer, recording: Recording, left_examples: int, right_examples: int) -> Layer:
    factored = replace(layer, factored=True)
    rows = recorded_rows(factored, recording, count_of(probe.inputs)) if has_formula(layer) else None
    rows = rows.linear if isinstance(rows, TiedRows) else rows
    cheaper = isinstance(rows, FactoredRows) and factored_is_cheaper(rows, left_examples, right_examples)
    return factored if cheaper else layer


def _merged(layers: list[Layer], order: dict[str, int]) -> list[Layer]:
    """The layers, with those of one module that are computed in the same way as one."""
    merged: dict[tuple, Layer] = {}
    for layer in layers:
        way = (layer.module, layer.factored, layer.dimensions, layer.vectorized, layer.others, layer.spread)
        if way in merged and not has_formula(layer):
            parameters = merged[way].parameters | layer.parameters
            layer = replace(layer, parameters=dict(sorted(parameters.items(), key=lambda pair: order[pair[1]])))
        merged[way] = layer
    return list(merged.values())
