"""Small language models of transformers, trained from scratch: GPT-2 (Radford et al. 2019) and T5 (Raffel et al. 2020).

Their words are not tied to the last layer, GPT-2's layers are linear ones, T5's norms torch's own, in the model's precision,
and places and relative positions are looked up for each example, so that the gradients of every parameter follow from a
layer's formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tda.data.kinds import TextKind
from tda.data.task_entry import Task
from tda.data.tokenizers import Vocabulary
from tda.models.attention import ATTENTION, register_attention
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError

_NORMS = ("LlamaRMSNorm", "T5LayerNorm", "MT5LayerNorm")
"""Classes of transformers that are torch's own root mean square norm, but for their precision."""


@dataclass(frozen=True)
class Sizes:
    """width: of a token's vector; hidden: of the layers between attentions."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    hidden: int = 512


def causal(sizes: Sizes, task: Task) -> nn.Module:
    """GPT-2 on the task's tokens: ids and mask (b, T) to the logits (b, T, V) of each next token."""
    from transformers import AutoModelForCausalLM, GPT2Config

    vocabulary = vocabulary_of(task, answers=False)
    config = GPT2Config(
        **_shared(vocabulary),
        n_positions=vocabulary.length,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_inner=sizes.hidden,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    register_attention()
    model = with_places_of_examples(AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION))
    model.ignores_padding = True
    return model.eval()


def with_places_of_examples(model: nn.Module) -> nn.Module:
    """The causal language model of transformers, changed in place where it is a GPT-2: linear layers for its Conv1D, and places
    with an entry for each example, so that its gradients follow from the layers' formulas.
    """
    replace_modules(model, "Conv1D", _as_linear)
    if type(model).__name__ == "GPT2LMHeadModel":
        _change_class(model, _PlacesOfExamples)
    return model


def encoder_decoder(sizes: Sizes, task: Task) -> nn.Module:
    """T5 on the task's tokens: ids and masks of a text and of an answer (b, T) to the logits (b, T, V) of the answer's next."""
    from transformers import T5Config, T5ForConditionalGeneration

    vocabulary = vocabulary_of(task, answers=True)
    config = T5Config(
        **_shared(vocabulary),
        d_model=sizes.width,
        d_kv=sizes.width // sizes.heads,
        d_ff=sizes.hidden,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        dropout_rate=0.0,
        decoder_start_token_id=vocabulary.padding,
    )
    register_attention()
    model = T5ForConditionalGeneration._from_config(config, attn_implementation=ATTENTION)
    exact_norms(model)
    for stack in (model.encoder, model.decoder):
        _change_class(stack.block[0].layer[0].SelfAttention, _PositionsOfExamples)
    # One module that is called twice, in place of two that share a weight.
    model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared
    # Its configuration ties the last layer to the words whatever one asks.
    model.lm_head = nn.Linear(sizes.width, vocabulary.size, bias=False)
    nn.init.normal_(model.lm_head.weight, std=sizes.width**-0.5)
    model.ignores_padding = True
    return model.eval()


def plan(task: Task) -> TrainingPlan:
    """AdamW at 1e-3 with a twentieth of warm-up and linear decay, in batches of 16; the last two epochs are scored."""
    return TrainingPlan(
        epochs=task.epochs,
        learning_rate=1e-3,
        weight_decay=0.01,
        decoupled_decay=True,
        warm_up=0.05,
        linear_decay=True,
        batch_size=16,
        num_kept_epochs=2,
    )


def vocabulary_of(task: Task, answers: bool) -> Vocabulary:
    """What the task's kind says of its tokens; answers: whether the model writes an answer to a text, or goes on with it.

    Raises UserError for a task whose inputs are no texts, that says nothing, or whose texts have no answers, or have some.
    """
    if not isinstance(task.kind, TextKind) or task.kind.vocabulary is None:
        raise UserError(f"task {task.name} has no texts whose vocabulary is known; choose one made by texts_from_library")
    vocabulary = task.kind.vocabulary()
    if vocabulary.answers != answers:
        own, other = ("no answers", "such as t5 writes") if answers else ("answers", "such as gpt has no use for")
        raise UserError(f"the texts of task {task.name} have {own}, {other}; choose another --task or --model")
    return vocabulary


def _shared(vocabulary: Vocabulary) -> dict[str, object]:
    """Of a model's configuration: special tokens, none where the tokenizer has none; no cache, for nothing is generated."""
    return {
        "vocab_size": vocabulary.size,
        "pad_token_id": vocabulary.padding,
        "bos_token_id": vocabulary.end,
        "eos_token_id": vocabulary.end,
        "tie_word_embeddings": False,
        "use_cache": False,
    }


class _PlacesOfExamples:
    """forward for GPT-2, whose places in a text then have an entry for each example."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **keywords: object) -> object:
        places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, **keywords)


class _PositionsOfExamples:
    """forward for T5's first attention of a stack, whose relative positions then have an entry for each example."""

    def forward(self, hidden_states: Tensor, *arguments: object, **keywords: object) -> tuple:
        self.num_examples = len(hidden_states)
        return super().forward(hidden_states, *arguments, **keywords)

    def compute_bias(self, query_length: int, key_length: int, device: object = None, past_seen_tokens: int = 0) -> Tensor:
        """What relative positions add to the logits, (b, heads, queries, keys), the same for all examples."""
        places = torch.arange(max(query_length, key_length), device=device or self.relative_attention_bias.weight.device)
        buckets = self._relative_position_bucket(
            places[None, :key_length] - places[:query_length, None] - past_seen_tokens,
            bidirectional=not self.is_decoder,
            num_buckets=self.relative_attention_num_buckets,
            max_distance=self.relative_attention_max_distance,
        )
        return self.relative_attention_bias(buckets.expand(self.num_examples, -1, -1)).permute(0, 3, 1, 2)


def exact_norms(network: nn.Module) -> None:
    """Put torch's own norms in the place of transformers', which compute in float32 whatever the model's precision."""

    def own(old: nn.Module) -> nn.Module:
        norm = nn.RMSNorm(len(old.weight), eps=old.variance_epsilon)
        norm.weight = old.weight
        return norm

    for kind in _NORMS:
        replace_modules(network, kind, own)


def _change_class(module: nn.Module, first: type) -> None:
    """Let methods of a class come before the module's own; its parameters keep their names."""
    kind = type(module)
    module.__class__ = type(f"{kind.__name__}OfExamples", (first, kind), {})


def replace_modules(model: nn.Module, kind: str, make: Callable[[nn.Module], nn.Module]) -> None:
    """Put what `make` gives for each module of a class of this name in its place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == kind:
                setattr(parent, name, make(child))


def _as_linear(layer: nn.Module) -> nn.Linear:
    """The linear layer with the numbers of a Conv1D of transformers."""
    width, outputs = layer.weight.shape
    linear = nn.Linear(width, outputs)
    linear.weight.data, linear.bias.data = layer.weight.data.T.contiguous(), layer.bias.data
    return linear
