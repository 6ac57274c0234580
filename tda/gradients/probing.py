"""The examples on which a plan for a model's gradients is proved."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import nn

from tda.gradients.accounts import Probe
from tda.gradients.forward_inspection import ForwardPass, spread
from tda.gradients.quantities import probe_quantity
from tda.gradients.single_precision import in_single_precision
from tda.gradients.whole_model import looped_gradients, reentrant_error
from tda.system.inputs import Inputs, chosen, count_of, device_of

_PROBE_EXAMPLES = 8
"""Examples on which the accounts of a model whose course depends on the data are proved."""


def probe_of(model: nn.Module, inputs: Inputs, names: Collection[str], forward: ForwardPass) -> Probe:
    """The named parameters' gradients of the examples, by differentiating them one by one."""
    labels = torch.zeros(count_of(inputs), dtype=torch.int64, device=device_of(inputs))
    try:
        expected = looped_gradients(model, names, inputs, labels, probe_quantity)
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise reentrant_error() from error
        raise
    return Probe(model, inputs, labels, probe_quantity, expected, forward)


def mirrored_probe(model: nn.Module, inputs: Inputs, names: Collection[str], forward: ForwardPass) -> Probe:
    """More examples, and once more in the opposite order: no sorting leaves as it is what reads the same both ways."""
    probe = probe_of(model, in_single_precision(chosen(inputs, spread(count_of(inputs), _PROBE_EXAMPLES))), names, forward)
    mirrored = list(range(len(probe.labels))) + list(reversed(range(len(probe.labels))))
    return replace(
        probe,
        inputs=chosen(probe.inputs, mirrored),
        labels=probe.labels[mirrored],
        expected={name: gradient[mirrored] for name, gradient in probe.expected.items()},
    )
