"""A last layer that is computed for a text's first token alone, the only one that a classifier of BERT's kind reads.

Attention needs every token's key and value, but only the first one's query; projection and hidden layer follow for it alone.
Of 12 products of width x width a token that leaves 2, and the numbers are the same.
"""

from torch import Tensor, nn

from tda.models.attention import attention

_LAYERS = ("BertLayer", "RobertaLayer", "XLMRobertaLayer")
"""Layers of encoders whose sequence classifiers read the first token."""


def read_first_token(layers: nn.ModuleList) -> None:
    """Let the last layer give the first token alone (b, 1, width), where it is of a kind known to be read so."""
    last = layers[-1]
    kind = type(last)
    if kind.__name__ in _LAYERS:
        # The class changes, not the module, so that its parameters keep their names.
        last.__class__ = type(f"FirstTokenOf{kind.__name__}", (_FirstToken, kind), {})


class _FirstToken:
    """forward for a layer of BERT."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *unused: object, **also: object) -> Tensor:
        """Vectors (b, T, width) and a mask that is added to the logits, to the first token's vector (b, 1, width)."""
        inner, first = self.attention.self, hidden_states[:, :1]
        heads = (inner.num_attention_heads, inner.attention_head_size)
        query = inner.query(first).unflatten(-1, heads).transpose(1, 2)
        key, value = (layer(hidden_states).unflatten(-1, heads).transpose(1, 2) for layer in (inner.key, inner.value))
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        mixed, _ = attention(inner, query, key, value, mask)
        return self.feed_forward_chunk(self.attention.output(mixed.flatten(2), first))
