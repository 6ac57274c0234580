"""Embedding similarity against one text at a time."""

from pathlib import Path

import pytest
import torch
from tiny_model import score
from torch.nn import functional

from tda.data.tokenizers import TextTokens, tokenizer_named, trained_tokenizer
from tda.models import sentence_encoder
from tda.training.example_texts import texts_of_test, texts_of_training


@pytest.fixture
def encoder(tmp_path: Path, root: Path) -> str:
    """A folder with an untrained BERT and its tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path / "encoder"
    tokenizer = trained_tokenizer("encoder", lambda: ("the cat sleeps", "a dog runs here"), 280)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(**sizes, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=32)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


@pytest.mark.parametrize("tiny", ["text"], indirect=True)
def test_cosines_of_mean_vectors(tiny, encoder: str, monkeypatch: pytest.MonkeyPatch):
    train, test, members = tiny
    monkeypatch.setattr(sentence_encoder, "_AT_ONCE", 4)
    scores = score("embedding_similarity", members, train, test, encoder=encoder)
    assert all(torch.equal(each, scores[0]) for each in scores)
    model, tokens = sentence_encoder.encoder_named(encoder), TextTokens(lambda: tokenizer_named(encoder), 32)

    def embedded(text: str) -> torch.Tensor:
        inputs = tokens.encode([text])
        count = int(inputs["attention_mask"].sum())
        with torch.no_grad():
            return model(input_ids=inputs["input_ids"][:, :count]).last_hidden_state[0].mean(0)

    for i, left in enumerate(texts_of_training(members[0], train)[:4]):
        for j, right in enumerate(texts_of_test(members[0], test)[:4]):
            expected = functional.cosine_similarity(embedded(left), embedded(right), dim=0)
            torch.testing.assert_close(scores[0][i, j], expected, rtol=1e-4, atol=1e-5)
