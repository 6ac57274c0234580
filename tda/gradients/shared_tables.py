"""Embeddings that need more than their own module's formula: tied to a linear layer, or called once for all examples.

Both are tried on the probe's examples, and are kept only where they give what differentiating single examples gives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from tda.gradients.example_dimensions import example_dimensions
from tda.gradients.layer_rows import recorded_rows
from tda.gradients.layers import Layer, NotPerExampleError
from tda.system.inputs import count_of

if TYPE_CHECKING:
    from tda.gradients.accounts import Probe


def tied_layers(probe: "Probe", several: Mapping[str, Sequence[nn.Module]]) -> Iterator[Layer]:
    """For each parameter that several modules hold, all embeddings or linear layers: a layer of those that are called."""
    for name, holders in several.items():
        if all(type(module) in (nn.Embedding, nn.Linear) for module in holders):
            yield from _proved(probe, Layer(holders[0], {"weight": name}, others=tuple(holders[1:])))


def spread_layers(probe: "Probe", owners: Mapping[str, nn.Module]) -> Iterator[Layer]:
    """Embeddings that are called with one row (1, T) for all examples, as those of places in a text are."""
    tables = [Layer(module, {"weight": name}) for name, module in owners.items() if type(module) is nn.Embedding]
    if not tables or count_of(probe.inputs) == 1:
        return
    together, _ = probe.recorded(tables, [])
    for layer in tables:
        calls = together.calls[layer.module]
        rows = [call.inputs[0] for call in calls if call.inputs]
        if calls and len(rows) == len(calls) and all(row.dim() > 1 and len(row) == 1 for row in rows):
            yield from _proved(probe, replace(layer, spread=True))


def _proved(probe: "Probe", layer: Layer) -> list[Layer]:
    """The layer without modules that are not called, or nothing where its gradients are not those of single examples."""
    names = list(layer.parameters.values())
    try:
        together, alone = probe.recorded([layer], names)
        first, *others = [module for module in (layer.module, *layer.others) if together.calls[module]]
        if any(name in recording.outside for recording in (together, alone) for name in names):
            return []
        for module in (first, *others):
            dimensions = example_dimensions(together.calls[module], alone.calls[module], count_of(probe.inputs))
            if any((found.inputs[0], found.outputs[0]) != (0, 0) for found in dimensions):
                return []
        layer = replace(layer, module=first, others=tuple(others))
        return [] if probe.wrong(recorded_rows(layer, together, count_of(probe.inputs)).gradients()) else [layer]
    except torch.OutOfMemoryError:
        raise
    except (NotPerExampleError, RuntimeError, ValueError, TypeError, IndexError):
        return []
