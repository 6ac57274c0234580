"""Small language models of transformers, trained from scratch: GPT-2 (Radford et al. 2019) and T5 (Raffel et al. 2020).

Their words are not tied to the last layer, GPT-2's layers are linear ones, and T5's norms torch's own, in the model's
precision, so that every parameter but T5's relative positions belongs to a layer whose gradients follow from a formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tda.data.kinds import TextKind
from tda.data.task_entry import Task
from tda.data.tokenizers import Vocabulary
from tda.models.attention import ATTENTION, register_attention
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError


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

    vocabulary = vocabulary_of(task)
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
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    _replace(model, "Conv1D", _as_linear)
    return model.eval()


def encoder_decoder(sizes: Sizes, task: Task) -> nn.Module:
    """T5 on the task's tokens: ids and masks of a text and of an answer (b, T) to the logits (b, T, V) of the answer's next."""
    from transformers import T5Config, T5ForConditionalGeneration

    vocabulary = vocabulary_of(task)
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
    _replace(model, "T5LayerNorm", lambda old: nn.RMSNorm(sizes.width, eps=old.variance_epsilon))
    # One module that is called twice, in place of two that share a weight.
    model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared
    # Its configuration ties the last layer to the words whatever one asks.
    model.lm_head = nn.Linear(sizes.width, vocabulary.size, bias=False)
    nn.init.normal_(model.lm_head.weight, std=sizes.width**-0.5)
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


def vocabulary_of(task: Task) -> Vocabulary:
    """What the task's kind says of its tokens; raises UserError for a task whose inputs are no texts, or that says nothing."""
    if not isinstance(task.kind, TextKind) or task.kind.vocabulary is None:
        raise UserError(f"task {task.name} has no texts whose vocabulary is known; choose one made by texts_from_library")
    return task.kind.vocabulary()


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


def _replace(model: nn.Module, kind: str, make: Callable[[nn.Module], nn.Module]) -> None:
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
