"""Random small networks out of a zoo of layers, as recipes that print: what a recipe's steps do not allow is left out."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from single_examples import CLASSES
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LENGTH, SIZE, TOKENS = 4, 3, 6, 5

Step = tuple[str, dict]


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)


class Twice(nn.Module):
    """f(sin f(x)), of one module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(self.inner(inputs).sin())


class IfAny(nn.Module):
    """f(x) for examples with a large first entry, if there are any: of all examples, or of these alone."""

    def __init__(self, inner: nn.Module, subset: bool) -> None:
        super().__init__()
        self.inner, self.subset = inner, subset

    def forward(self, inputs: Tensor) -> Tensor:
        large = inputs.flatten(1)[:, 0] > 0.5
        if not large.any():
            return inputs
        if self.subset:
            out = inputs.clone()
            out[large] = self.inner(inputs[large])
            return out
        return torch.where(large.view(-1, *[1] * (inputs.dim() - 1)), self.inner(inputs.clone()), inputs)


class Experts(nn.Module):
    """Linear layers, each called with its own tokens alone."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(width, count), nn.ModuleList(nn.Linear(width, width) for _ in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, inputs.shape[-1])
        gates, out = self.router(tokens).softmax(-1), torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            mine = (gates.argmax(-1) == i).nonzero().flatten()
            if len(mine):
                out = out.index_add(0, mine, expert(tokens[mine]) * gates[mine, i, None])
        return out.view(inputs.shape)


class Attention(nn.Module):
    """Self-attention of (n, T, width), inside with the examples first or second."""

    def __init__(self, width: int, batch_first: bool, causal: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=batch_first, dropout=0.1)
        self.batch_first, self.causal = batch_first, causal

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs if self.batch_first else inputs.transpose(0, 1)
        length = inputs.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        out, _ = self.attention(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
        return out if self.batch_first else out.transpose(0, 1)


class Own(nn.Module):
    """Parameters of the module itself, one of them a single number, and a layer whose weight is read without a call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.alpha, self.read = (
            nn.Parameter(torch.randn(width)),
            nn.Parameter(torch.tensor(0.5)),
            nn.Linear(width, width),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale + self.alpha * functional.linear(inputs, self.read.weight).sin()


class Tied(nn.Module):
    """Two layers that hold one weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).sin())


class Along(nn.Module):
    """A module that takes channels before positions, on tensors that have them last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs.transpose(1, 2)).transpose(1, 2)


class Recurrent(nn.Module):
    """The outputs of a recurrent network."""

    def __init__(self, width: int, batch_first: bool) -> None:
        super().__init__()
        self.cell, self.batch_first = nn.GRU(width, width, batch_first=batch_first), batch_first

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cell(inputs)[0] if self.batch_first else self.cell(inputs.transpose(0, 1))[0].transpose(0, 1)


class Activation(nn.Module):
    """A nonlinearity, perhaps in place."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.leaky_relu(inputs, 0.2, inplace=True) if self.inplace else inputs.sin()


class Network(nn.Module):
    """Steps and a classifier, for inputs of a kind."""

    def __init__(self, kind: str, steps: list[Step]) -> None:
        super().__init__()
        self.kind = kind
        if kind == "tokens":
            self.words, self.places = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        layers, example = [], torch.zeros(2, *SHAPES[kind])
        for name, options in steps:
            layer = built(name, options, example)
            if layer is not None:
                layers.append(layer)
                with torch.no_grad():
                    example = layer.eval()(example.clone())
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(example[0].numel() if kind != "tokens" else example.shape[-1], CLASSES)

    def forward(self, inputs: Tensor | None = None, input_ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        if self.kind != "tokens":
            return self.head(self.layers(inputs).flatten(1))
        hidden = self.layers(self.words(input_ids) + self.places(torch.arange(LENGTH)))
        length = hidden.shape[1]
        weights = functional.pad(mask, (0, max(0, length - LENGTH)))[:, :length, None].to(hidden)
        return self.head((hidden * weights).sum(1) / weights.sum(1).clamp(min=1))


SHAPES = {"features": (WIDTH,), "sequences": (LENGTH, WIDTH), "tokens": (LENGTH, WIDTH), "images": (2, SIZE, SIZE)}


def built(name: str, options: dict, example: Tensor) -> nn.Module | None:
    """The module of a step for what comes in, None if it cannot take that."""
    try:
        layer = BUILDERS[name](example, options)
        with torch.no_grad():
            found = layer.eval()(example.clone())
    except (RuntimeError, ValueError, AssertionError, KeyError, IndexError):
        return None
    return layer if found.dim() == example.dim() and found.numel() and max(found.shape) <= 16 else None


def _nested(example: Tensor, options: dict) -> nn.Module:
    inner = built(*options["inner"], example)
    if inner is None or inner(example.clone()).shape != example.shape:
        raise ValueError
    return inner


def _convolution(example: Tensor, options: dict) -> nn.Module:
    settings = {
        name: options[name] for name in ("kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode")
    }
    if example.dim() == 4:
        return nn.Conv2d(example.shape[1], options["channels"], **settings)
    return Along(nn.Conv1d(example.shape[2], options["channels"], **settings))


def _of_images(layer: Callable[[int], nn.Module]) -> Callable[[Tensor, dict], nn.Module]:
    def build(example: Tensor, options: dict) -> nn.Module:
        if example.dim() != 4:
            raise ValueError
        return layer(example.shape[1])

    return build


def _of_sequences(layer: Callable[[int, dict], nn.Module]) -> Callable[[Tensor, dict], nn.Module]:
    def build(example: Tensor, options: dict) -> nn.Module:
        if example.dim() != 3:
            raise ValueError
        return layer(example.shape[2], options)

    return build


def _normalised(example: Tensor, options: dict) -> nn.Module:
    width, kind = example.shape[-1], options["kind"]
    if kind == "batch":
        return {2: nn.BatchNorm1d(width), 3: Along(nn.BatchNorm1d(width)), 4: nn.BatchNorm2d(example.shape[1])}[example.dim()]
    return nn.RMSNorm(width, eps=1e-5) if kind == "rms" else nn.LayerNorm(example.shape[1:] if kind == "all" else width)


BUILDERS: dict[str, Callable[[Tensor, dict], nn.Module]] = {
    "linear": lambda example, options: nn.Linear(example.shape[-1], options["outputs"], bias=options["bias"]),
    "activation": lambda example, options: Activation(options["inplace"]),
    "norm": _normalised,
    "own": lambda example, options: Own(example.shape[-1]),
    "tied": lambda example, options: Tied(example.shape[-1]),
    "experts": lambda example, options: Experts(example.shape[-1], options["count"]),
    "dropout": lambda example, options: nn.Dropout(0.3),
    "convolution": _convolution,
    "residual": lambda example, options: Residual(_nested(example, options)),
    "twice": lambda example, options: Twice(_nested(example, options)),
    "if any": lambda example, options: IfAny(_nested(example, options), options["subset"]),
    "attention": _of_sequences(lambda width, options: Attention(width, options["batch_first"], options["causal"])),
    "recurrent": _of_sequences(lambda width, options: Recurrent(width, options["batch_first"])),
    "prelu": _of_images(nn.PReLU),
    "group norm": _of_images(lambda channels: nn.GroupNorm(1, channels)),
    "instance norm": _of_images(lambda channels: nn.InstanceNorm2d(channels, affine=True)),
    "pooling": _of_images(lambda channels: nn.MaxPool2d(2)),
    "mean pooling": _of_images(lambda channels: nn.AdaptiveAvgPool2d(2)),
    "transposed convolution": _of_images(lambda channels: nn.ConvTranspose2d(channels, 2, 2, stride=2)),
}  # fmt: skip

flags = st.booleans()
_convolutions = st.fixed_dictionaries(
    {
        "channels": st.sampled_from([2, 4]),
        "kernel_size": st.integers(1, 3),
        "stride": st.integers(1, 2),
        "padding": st.sampled_from([0, 1, 2, "same", "valid"]),
        "dilation": st.integers(1, 2),
        "groups": st.sampled_from([1, 2]),
        "bias": flags,
        "padding_mode": st.sampled_from(["zeros", "zeros", "circular", "reflect"]),
    }
)
_plain_steps = st.one_of(
    st.tuples(st.just("linear"), st.fixed_dictionaries({"outputs": st.sampled_from([WIDTH, 6]), "bias": flags})),
    st.tuples(st.just("linear"), st.just({"outputs": WIDTH, "bias": True})),
    st.tuples(st.just("activation"), st.fixed_dictionaries({"inplace": flags})),
    st.tuples(st.just("norm"), st.fixed_dictionaries({"kind": st.sampled_from(["batch", "rms", "layer", "all"])})),
    st.tuples(st.just("convolution"), _convolutions),
    st.tuples(st.just("experts"), st.fixed_dictionaries({"count": st.integers(2, 4)})),
    st.tuples(st.just("attention"), st.fixed_dictionaries({"batch_first": flags, "causal": flags})),
    st.tuples(st.just("recurrent"), st.fixed_dictionaries({"batch_first": flags})),
    st.tuples(
        st.sampled_from(
            ["own", "tied", "dropout", "prelu", "group norm", "instance norm", "pooling", "mean pooling"]
            + ["transposed convolution"]
        ),
        st.just({}),
    ),
)
steps = st.one_of(
    _plain_steps,
    st.tuples(st.sampled_from(["residual", "twice"]), st.fixed_dictionaries({"inner": _plain_steps})),
    st.tuples(st.just("if any"), st.fixed_dictionaries({"inner": _plain_steps, "subset": flags})),
)
