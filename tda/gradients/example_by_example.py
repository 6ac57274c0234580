"""The slower way for layers that a block of examples used otherwise than was proved: every example in a pass of its own.

Whatever a layer processes in a pass over one example belongs to that example: no entry, several, or parts of it in any order.
The rows come in the layer's own form, so that they fit those of other blocks.
"""

import torch
from torch import Tensor, nn

from tda.gradients.accounts import accounting
from tda.gradients.factored_rows import FactoredRows
from tda.gradients.formed_rows import FormedRows
from tda.gradients.gradient_rows import LayerRows
from tda.gradients.layer_rows import groups_of, rows_of_one_example, unused_rows
from tda.gradients.layers import Layer, NotPerExampleError
from tda.gradients.quantities import Quantity
from tda.gradients.recorded_pass import Recording, record_calls
from tda.gradients.whole_model import looped_gradients
from tda.system.inputs import Inputs, chosen, count_of


def rows_example_by_example(
    model: nn.Module, layers: list[Layer], wrong: list[Layer], inputs: Inputs, labels: Tensor, quantity: Quantity
) -> list[LayerRows]:
    """The rows of each layer for all examples; wrong: those of the layers whose formula is not that of what they do."""
    recorded = accounting([layer for layer in layers if layer.factored and not layer.others and layer not in wrong])
    watched = {name: layer.module.get_parameter(local) for layer in layers for local, name in layer.parameters.items()}
    blocks: list[list[LayerRows]] = [[] for _ in layers]
    for i in range(count_of(inputs)):
        example, label = chosen(inputs, slice(i, i + 1)), labels[i : i + 1]
        recording = record_calls(model, recorded, example, label, quantity, watched)
        for layer, rows in zip(layers, blocks, strict=True):
            if layer.factored:
                found = None if layer in wrong else _factored_rows(layer, recording)
            else:
                found = _formed_rows(layer, recording)
            if found is None:
                found = _differentiated(model, layer, example, label, quantity, recording)
            rows.append(found)
    return [first.concatenated(others) for first, *others in blocks]


def _formed_rows(layer: Layer, recording: Recording) -> FormedRows:
    gradients = {name: recording.outside[name] for name in layer.parameters.values() if name in recording.outside}
    rows = FormedRows.of_gradients(
        {name: torch.stack(each) for name, each in gradients.items()}, recording.values.numel(), groups_of(layer)
    )
    shapes = {name: layer.module.get_parameter(local).shape for local, name in layer.parameters.items()}
    return FormedRows(rows.parts, shapes, rows.count, rows.groups)


def _factored_rows(layer: Layer, recording: Recording) -> FactoredRows | None:
    """None where the pass used the layer's parameters outside of its module, or overwrote what went in."""
    if layer.others or any(name in recording.outside for name in layer.parameters.values()):
        return None
    calls = recording.calls[layer.module]
    if not calls:
        return unused_rows(layer, recording.values)
    try:
        return rows_of_one_example(layer, calls)
    except NotPerExampleError:
        return None


def _differentiated(
    model: nn.Module, layer: Layer, example: Inputs, label: Tensor, quantity: Quantity, recording: Recording
) -> LayerRows:
    """The factored rows of one example's gradients, whatever the model does with the parameters."""
    names = list(layer.parameters.values())
    gradients = looped_gradients(model, names, example, label, quantity)
    empty = unused_rows(layer, recording.values)
    parameters = {name: layer.module.get_parameter(local) for local, name in layer.parameters.items()}
    zeros = {name: parameter.new_zeros(empty.count, *parameter.shape) for name, parameter in parameters.items()}
    return empty.of_example({name: gradients.get(name, zeros[name]) for name in names})
