"""Networks that are odd in ways that a kernel of gradients must not mind: shared, tied, overwritten, branching."""

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 3


def small_cnn(inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    relu = nn.ReLU(inplace)
    convolutions = (nn.Conv2d(1, 3, 3), relu, nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), relu)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 5), relu, nn.Linear(5, CLASSES))


class Residual(nn.Module):
    """Convolutions whose outputs are overwritten by a sum and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images).relu_()
        out = self.norm(self.second(features))
        out += features
        return self.head(functional.relu(out, inplace=True).mean(dim=(2, 3)))


class SharedTwice(nn.Module):
    """One linear layer and one norm called twice each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.norm, self.head = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.shared(inputs).tanh())
        return self.head(self.norm(self.shared(hidden).tanh() + inputs))


class Tied(nn.Module):
    """Two layers that hold the same weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.second(self.first(inputs).tanh()).tanh())


class Scaled(nn.Module):
    """A module with both children and parameters of its own, one of which nothing uses, called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.unused = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2))
        self.inner = nn.Linear(4, 4)

    def forward(self, inputs: Tensor, power: int = 1) -> dict[str, Tensor]:
        return {"plain": self.inner(inputs * self.scale**power), "scaled": self.scale * inputs}


class OddModules(nn.Module):
    """Parameters of the model itself, a module with several outputs, and a layer whose weight is read directly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shift, self.scaled = nn.Parameter(torch.randn(4)), Scaled()
        self.read, self.head = nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.scaled(inputs + self.shift, power=2)
        return self.head(functional.linear(outputs["plain"].tanh(), self.read.weight) * outputs["scaled"])


class Attention(nn.Module):
    """Self-attention, whose output projection is not called as a module."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.position = nn.Embedding(5, 4)
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=batch_first), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.position(torch.arange(5))
        tokens = inputs if self.batch_first else inputs.transpose(0, 1)
        out, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(out.mean(dim=1 if self.batch_first else 0))


class Masked(nn.Module):
    """Self-attention with a mask that all examples share, of as many rows as there are right examples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
        out, _ = self.attention(inputs, inputs, inputs, attn_mask=mask, need_weights=False)
        return self.head(out.mean(dim=1))


class ScaledByTable(nn.Module):
    """A module without a formula of its own that is given such a table, where a row of it alone would do as well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head = TableScale(), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        table = torch.arange(20, dtype=inputs.dtype).view(5, 4).sin()
        return self.head(self.inner(inputs, table=table).mean(dim=1))


class TableScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, inputs: Tensor, table: Tensor) -> Tensor:
        return inputs * self.scale * table


class Stubborn(nn.Module):
    """A model whose own parameter torch.func.vmap cannot differentiate, for it branches on data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.head = nn.Parameter(torch.randn(4)), nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs * self.scale * (2 if inputs.sum().item() > 1e9 else 1))
