"""Classifiers of texts that are fine-tuned from a pre-trained encoder: as a whole, by its upper layers, or by LoRA.

What the layers below the lowest one that is trained or adapted make of a text is computed once and kept on disk (see
frozen_outputs.py); a model then begins there.
"""

import copy
import inspect
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from tda.data.task_entry import Task
from tda.models.fine_tuning import TextTuning
from tda.models.first_token import read_first_token
from tda.models.frozen_outputs import frozen_outputs
from tda.models.seeded_dropout import SeededDropout
from tda.models.shared_weights import SharesFrozenWeights
from tda.models.text_bases import TextBase, text_base
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.inputs import Inputs
from tda.system.padding import of_similar_length

_PROJECTIONS = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"))
"""Names of the query and value projections of BERT's relatives."""

_TEXTS_AT_ONCE = 10

_RATES = {"all": 1e-4, "upper": 2e-4, "lora": 1e-3}


class TextClassifier(SharesFrozenWeights):
    """A sequence classifier of transformers, from tokens, or from what its frozen layers made of them, to logits.

    Copies share the frozen weights' memory.
    """

    ignores_padding = True

    def __init__(self, network: nn.Module, new: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.new = network, new

    def forward(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Logits (b, classes) of ids (b, T), or of vectors (b, T, width), with a mask (b, T) of the tokens that count."""
        parts = {"input_ids": input_ids, "token_type_ids": token_type_ids, "inputs_embeds": inputs_embeds}
        given = {name: part for name, part in parts.items() if part is not None} | {"attention_mask": attention_mask}
        groups = of_similar_length(attention_mask) if self.training else []
        if len(groups) < 2:
            return self.network(**given).logits
        logits = [
            self.network(**{name: part[positions, :length] for name, part in given.items()}).logits
            for positions, length in groups
        ]
        return torch.cat(logits)[torch.cat([positions for positions, _ in groups]).argsort()]

    def initialise(self) -> None:
        """Draw new adapters, which change nothing at first, and the head's new layers from torch's global generator."""
        std = getattr(self.network.config, "initializer_range", 0.02)
        for module in self.network.modules():
            if hasattr(module, "reset_lora_parameters"):
                module.reset_lora_parameters("default", init_lora_weights=True)
        for name in self.new:
            layer = self.network.get_submodule(name)
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class LowerLayers(nn.Module):
    """The embeddings and lower layers of an encoder: tokens to vectors (b, T, width), zeros where the mask leaves one out."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, **tokens: Tensor) -> Tensor:
        """What the last of the layers gives for each token; texts of about one length are computed together."""
        mask = tokens["attention_mask"]
        sizes, found = mask.sum(dim=1), None
        for positions in sizes.argsort(stable=True).split(_TEXTS_AT_ONCE):
            longest = int(sizes[positions].max())
            given = {name: part[positions, :longest] for name, part in tokens.items()}
            vectors = self.encoder(**given).last_hidden_state * given["attention_mask"][..., None]
            if found is None:
                found = vectors.new_zeros(*mask.shape, vectors.shape[-1])
            found[positions, :longest] = vectors
        return found


def build(choices: TextTuning, task: Task) -> TextClassifier:
    """The base with new layers for the task's classes; the frozen weights are shared with every other model of it."""
    model = copy.deepcopy(_template(text_base(choices.base, task), choices))
    model.initialise()
    return model


def plan(choices: TextTuning, task: Task) -> TrainingPlan:
    """AdamW in batches of 16, with a tenth of warm-up and linear decay; of a whole encoder the last epoch alone is scored."""
    return TrainingPlan(
        epochs=task.epochs,
        learning_rate=_RATES[choices.trained],
        weight_decay=0.01,
        decoupled_decay=True,
        warm_up=0.1,
        linear_decay=True,
        batch_size=16,
        num_kept_epochs=1 if choices.trained == "all" else 2,
    )


def inputs(name: str, choices: TextTuning, task: Task, tokens: Inputs, device: torch.device) -> Inputs:
    """What the models take: the tokens, or the vectors (n, T, width) that the frozen lower layers make of them, and the mask.

    name: of the family, below whose folder of models the vectors are kept.
    """
    base = text_base(choices.base, task)
    kept = {key: part for key, part in tokens.items() if key in _arguments(base)}
    if _number_frozen(base, choices) == 0:
        return kept
    return {
        "inputs_embeds": _vectors(name, base, choices, tuple(kept.items()), device),
        "attention_mask": kept["attention_mask"],
    }


# Every step asks for the inputs of the same two splits several times; a tensor is its own key.
@lru_cache(maxsize=2)
def _vectors(
    name: str, base: TextBase, choices: TextTuning, tokens: tuple[tuple[str, Tensor], ...], device: torch.device
) -> Tensor:
    made_from = {"base_sha256": base.sha256, "layers": _number_frozen(base, choices)}
    return frozen_outputs(name, _cut(base, choices)[0], dict(tokens), made_from, device)


def origin(choices: TextTuning, task: Task) -> dict:
    """The choices of fine-tuning and the hash of the base's weights."""
    return choices.as_dict() | {"base_sha256": text_base(choices.base, task).sha256}


def _number_frozen(base: TextBase, choices: TextTuning) -> int:
    """How many of the lower layers stay as they are; raises UserError if the base has fewer layers than are to be trained."""
    if choices.trained == "all" or choices.upper_layers == 0:
        return 0
    _, layers = _layers(base)
    if choices.upper_layers > len(layers):
        raise UserError(f"--upper_layers {choices.upper_layers} is too large: base {base.name} has {len(layers)} layers")
    return len(layers) - choices.upper_layers


def _layers(base: TextBase) -> tuple[str, nn.ModuleList]:
    """The encoder's list of layers, by its name below the encoder."""
    count = getattr(base.network.config, "num_hidden_layers", None)
    for name, module in base.network.base_model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise UserError(f"the layers of base {base.name} cannot be told apart; choose another base")


def _arguments(base: TextBase) -> set[str]:
    """Which tensors the base takes."""
    return set(inspect.signature(base.network.forward).parameters)


@lru_cache(maxsize=4)
def _template(base: TextBase, choices: TextTuning) -> TextClassifier:
    # Building draws new layers; what the seed fixes must not depend on whether the template was there already.
    with torch.random.fork_rng(devices=[]):
        network = copy.deepcopy(base.network if _number_frozen(base, choices) == 0 else _cut(base, choices)[1])
        read_first_token(network.base_model.get_submodule(_layers(base)[0]))
        if choices.trained == "lora":
            network = _adapted(base, network, choices)
        else:
            network.requires_grad_(True)
    for name in base.new:
        network.get_submodule(name).requires_grad_(True)
    for parent, name in list(_dropout_layers(network)):
        setattr(parent, name, SeededDropout(choices.dropout))
    return TextClassifier(network, base.new).eval()


def _adapted(base: TextBase, network: nn.Module, choices: TextTuning) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    for pair in _PROJECTIONS:
        if targets := [name for name in linear if name.rpartition(".")[2] in pair]:
            settings = LoraConfig(r=choices.rank, lora_alpha=choices.alpha, lora_dropout=0.0, target_modules=targets)
            return inject_adapter_in_model(settings, network)
    known = " or ".join("/".join(pair) for pair in _PROJECTIONS)
    raise UserError(f"base {base.name} has no attention projections named {known}; choose --trained upper or all")


@lru_cache(maxsize=2)
def _cut(base: TextBase, choices: TextTuning) -> tuple[LowerLayers, nn.Module]:
    """The frozen lower layers, and the classifier that begins above them.

    Raises UserError if both together do not give what the base gives.
    """
    name, layers = _layers(base)
    frozen = _number_frozen(base, choices)
    lower, upper = copy.deepcopy(base.network.base_model), copy.deepcopy(base.network)
    lower.set_submodule(name, nn.ModuleList(list(lower.get_submodule(name))[:frozen]))
    if hasattr(lower, "pooler"):
        lower.pooler = None
    upper.base_model.set_submodule(name, nn.ModuleList(list(upper.base_model.get_submodule(name))[frozen:]))
    _let_vectors_pass(upper.base_model.embeddings)
    _check_cut(base, LowerLayers(lower), upper)
    return LowerLayers(lower), upper


def _check_cut(base: TextBase, lower: LowerLayers, upper: nn.Module) -> None:
    tokens = {"input_ids": torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]]), "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]])}
    with torch.no_grad():
        whole = base.network(**tokens).logits
        pieces = upper(inputs_embeds=lower(**tokens), attention_mask=tokens["attention_mask"]).logits
    if not torch.allclose(whole, pieces, rtol=1e-3, atol=1e-4 * float(whole.abs().max())):
        raise UserError(f"base {base.name} cannot be cut between its layers; choose --trained all, or another base")


class _VectorsPass:
    """Embeddings that leave alone what is embedded already."""

    def forward(self, *arguments: object, **keywords: object) -> Tensor:
        parts = [part for part in (*arguments, *keywords.values()) if isinstance(part, Tensor) and part.is_floating_point()]
        return parts[0]


def _let_vectors_pass(embeddings: nn.Module) -> None:
    """Change the module's class, not the module, whose attributes transformers reads; its weights go, for nothing uses them."""
    for name, _ in list(embeddings.named_parameters()):
        parent, _, last = name.rpartition(".")
        delattr(embeddings.get_submodule(parent), last)
    kind = type(embeddings)
    embeddings.__class__ = type(f"Passing{kind.__name__}", (_VectorsPass, kind), {})


def _dropout_layers(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                yield parent, name
