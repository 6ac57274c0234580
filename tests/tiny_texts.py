"""Texts of a dozen words, tasks of them, and two models small enough for explicit matrices."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tda.data.kinds import TextKind
from tda.data.pools import Pool
from tda.data.tasks import Task
from tda.data.tokenizers import Vocabulary
from tda.gradients.objectives import NextToken
from tda.models.attention import ATTENTION, register_attention
from tda.models.language_models import Sizes, causal, encoder_decoder, exact_norms
from tda.models.language_tuning import adapted

WORDS = "the a cat dog bird runs sleeps sings fast well here now not".split()
VOCABULARY = {"": 0} | {word: number for number, word in enumerate(WORDS, start=1)}
LENGTH = 6
_SUBJECTS = (("cat", "sleeps"), ("dog", "runs"), ("bird", "sings"))


def encode(texts: list[str]) -> dict[str, Tensor]:
    """Token ids and mask (n, LENGTH); a word that is not known is left out."""
    rows = [[VOCABULARY[word] for word in text.split() if word in VOCABULARY][:LENGTH] for text in texts]
    tokens = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}


def decode(tokens: dict[str, Tensor]) -> str:
    """The words that the mask counts."""
    counted = tokens["input_ids"][tokens["attention_mask"] > 0]
    return " ".join(WORDS[number - 1] for number in counted.tolist())


def texts_of(part: str) -> Pool:
    """30 texts of each of three subjects, of three to six words, most of them about the subject of their label."""
    generator = np.random.default_rng(0 if part == "train" else 1)
    texts, labels = [], np.repeat(np.arange(3), 30)
    for label in labels:
        about = label if generator.random() < 0.8 else generator.integers(3)
        rest = generator.permutation(["fast", "well", "here", "now", "not"])[: generator.integers(0, 4)]
        texts.append(" ".join([generator.choice(["the", "a"]), *_SUBJECTS[about], *rest]))
    return Pool(np.array(texts), labels)


def encode_answers(texts: list[str]) -> dict[str, Tensor]:
    """The text, and what a decoder reads (n, 3): a start, and the last word of a short text or the last two of a long one."""
    source = encode(texts)
    rows = []
    for ids, mask in zip(source["input_ids"], source["attention_mask"], strict=True):
        words = ids[mask > 0].tolist()
        rows.append([0, *words[-(1 + (len(words) > 4)) :]])
    tokens = torch.tensor([row + [0] * (3 - len(row)) for row in rows])
    counted = torch.tensor([[1] * len(row) + [0] * (3 - len(row)) for row in rows])
    return source | {"decoder_input_ids": tokens, "decoder_attention_mask": counted}


def vocabulary() -> Vocabulary:
    """What models of transformers must know."""
    return Vocabulary(size=len(VOCABULARY), length=LENGTH, padding=0, end=None, sha256="")


_SHARED = {
    "classes": (0, 1, 2),
    "class_names": ("cat", "dog", "bird"),
    "epochs": 6,
    "test_per_class": 5,
    "load": texts_of,
    "kind": TextKind(encode, decode, vocabulary),
}
CLASSES = Task(name="tiny_texts", title="texts about three animals", **_SHARED)
TOKENS = Task(name="tiny_language", title="the words of texts about three animals", **_SHARED, objective=NextToken())
ANSWERS = replace(
    TOKENS, name="tiny_answers", kind=TextKind(encode_answers, decode, lambda: replace(vocabulary(), answers=True))
)


class _Trunk(nn.Module):
    """Embedded tokens and places, one head of attention, and a layer norm: (n, LENGTH) -> (n, LENGTH, 6)."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(len(VOCABULARY), 6), nn.Embedding(LENGTH, 6)
        self.query, self.key, self.value, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.norm = nn.LayerNorm(6)
        self.causal = causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        embedded = self.words(input_ids) + self.places(place.expand_as(input_ids))
        seen = attention_mask[:, None, :].bool()
        if self.causal:
            seen = seen & (place[:, None] >= place[None, :])
        logits = self.query(embedded) @ self.key(embedded).mT / 6**0.5
        attended = logits.masked_fill(~seen, -1e9).softmax(-1) @ self.value(embedded)
        return self.norm(embedded + self.out(attended))


class TextClassifier(nn.Module):
    """Three logits from the mean over the tokens that the mask counts."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(causal=False), nn.Linear(6, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (n, 3)."""
        weights = attention_mask.to(self.head.weight.dtype)[..., None]
        return self.head((self.trunk(input_ids, attention_mask) * weights).sum(1) / weights.sum(1))


class LanguageModel(nn.Module):
    """The logits of the next word at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(causal=True), nn.Linear(6, len(VOCABULARY))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (n, LENGTH, vocabulary)."""
        return self.head(self.trunk(input_ids, attention_mask))


def small_bert(task: Task) -> nn.Module:
    """BERT with one layer of width 4, as a sequence classifier of transformers."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    register_attention()
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**sizes, **dropout, vocab_size=len(VOCABULARY), max_position_embeddings=LENGTH, num_labels=3)
    return _far_from_zero(AutoModelForSequenceClassification.from_config(config, attn_implementation=ATTENTION))


WIDTH, LAYERS = 8, 3


def save_text_base(folder: Path) -> None:
    """An untrained BERT with three layers for the texts' words, as save_pretrained writes it."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 12}
    config = BertConfig(**sizes, vocab_size=len(VOCABULARY), max_position_embeddings=LENGTH, initializer_range=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(folder)


def small_gpt(task: Task) -> nn.Module:
    """GPT-2 with one layer of width 4."""
    return _far_from_zero(causal(Sizes(width=4, layers=1, heads=2, hidden=4), task))


def small_t5(task: Task) -> nn.Module:
    """T5 with one layer of width 4 on either side."""
    return _far_from_zero(encoder_decoder(Sizes(width=4, layers=1, heads=2, hidden=4), task))


def small_llama_base() -> nn.Module:
    """Llama with two layers of width 8, and fewer heads of keys than of queries."""
    from transformers import LlamaConfig, LlamaForCausalLM

    register_attention()
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        **sizes,
        intermediate_size=8,
        vocab_size=len(VOCABULARY),
        max_position_embeddings=2 * LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return _far_from_zero(LlamaForCausalLM._from_config(config, attn_implementation=ATTENTION))


def save_t5_base(folder: Path) -> None:
    """T5 with two layers of width 8 on either side and gates between attentions, as save_pretrained writes it."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    config = T5Config(**sizes, vocab_size=len(VOCABULARY), decoder_start_token_id=0, pad_token_id=0, eos_token_id=None)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        _far_from_zero(T5ForConditionalGeneration(config)).save_pretrained(folder)


def small_llama(task: Task) -> nn.Module:
    """The same with trained adapters of rank 2 on its queries and values."""
    base = small_llama_base()
    exact_norms(base)
    model = adapted(base, rank=2, alpha=4, name="tiny")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    return model


def _far_from_zero(model: nn.Module) -> nn.Module:
    """The model with noise on its parameters: transformers starts biases at 0 and weights close to it."""
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return model
