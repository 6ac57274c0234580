"""Low-rank adapters on the attention's query and value projections, through peft, and a new classifier."""

import copy
from collections.abc import Iterator

from torch import Tensor, nn

from tda.models.seeded_dropout import SeededDropout
from tda.models.shared_weights import SharesFrozenWeights
from tda.models.vit_base import Base
from tda.system.errors import UserError

_PROJECTIONS = (("q_proj", "v_proj"), ("query", "value"))
"""Names of the query and value projections: transformers renamed them in version 5.9."""


class LowRankClassifier(SharesFrozenWeights):
    """A frozen base with trained adapters and classifier, from pixel values or embedded tokens to logits.

    Copies share the frozen weights' memory.
    """

    def __init__(self, network: nn.Module, classifier: str, initial_std: float) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier
        self.initial_std = initial_std

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (b, classes) of pixel values (b, channels, size, size) or tokens (b, tokens, width)."""
        return self.network(inputs).logits

    def initialise(self) -> None:
        """Draw new adapters, which change nothing at first, and a new classifier from torch's global generator."""
        from peft.tuners.lora import LoraLayer

        for module in self.network.modules():
            if isinstance(module, LoraLayer):
                module.reset_lora_parameters("default", init_lora_weights=True)
        head = self.network.get_submodule(self.classifier)
        nn.init.normal_(head.weight, std=self.initial_std)
        nn.init.zeros_(head.bias)


def adapted(base: Base, rank: int, alpha: int, dropout: float, num_logits: int) -> LowRankClassifier:
    """The base with adapters of a rank on every query and value projection, their output scaled by alpha / rank.

    Raises UserError for a rank below 1, a dropout outside [0, 1), or a base without such projections.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise UserError(f"the rank of adapters must be 1 or more, not {rank}")
    if not 0 <= dropout < 1:
        raise UserError(f"the dropout of adapters must be at least 0 and below 1, not {dropout}")
    network = copy.deepcopy(base.network)
    targets = projections(base)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets), network)
    width = network.get_submodule(base.classifier).in_features
    network.set_submodule(base.classifier, nn.Linear(width, num_logits))
    for parent, name, dropout_layer in list(_dropout_layers(network)):
        setattr(parent, name, SeededDropout(dropout_layer.p))
    if base.embeds_into_tokens:
        _let_tokens_pass(network.base_model.embeddings)
    return LowRankClassifier(network, base.classifier, getattr(network.config, "initializer_range", 0.02)).eval()


def projections(base: Base) -> list[str]:
    """Names of the linear layers that project to queries and to values; raises UserError if the base has none."""
    linear = [name for name, module in base.network.named_modules() if isinstance(module, nn.Linear)]
    for pair in _PROJECTIONS:
        queries, values = ([name for name in linear if name.rpartition(".")[2] == last] for last in pair)
        if queries and len(queries) == len(values):
            return queries + values
    known = " or ".join("/".join(pair) for pair in _PROJECTIONS)
    raise UserError(f"base {base.name} has no attention projections named {known}; choose a ViT or DeiT classifier as --base")


def _dropout_layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Dropout]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                yield parent, name, child


class _TokensPass:
    """Embeddings that leave alone what is embedded already."""

    def forward(self, inputs: Tensor, *arguments: object, **keywords: object) -> Tensor:
        return inputs if inputs.dim() == 3 else super().forward(inputs, *arguments, **keywords)


def _let_tokens_pass(embeddings: nn.Module) -> None:
    """Change the module's class, not the module: transformers reads its attributes, and copies must stay copies."""
    kind = type(embeddings)
    embeddings.__class__ = type(f"Passing{kind.__name__}", (_TokensPass, kind), {})
