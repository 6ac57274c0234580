"""Tokenizers trained on texts: ids, masks and special tokens, and that a kept one is of the same texts."""

import functools
from pathlib import Path

import pytest
import torch

from tda.data.tokenizers import END, PADDING, AnsweredTokens, TextTokens, tokenizer_named, trained_tokenizer
from tda.system.errors import UserError

TEXTS = ("the cat sleeps", "the dog sleeps here", "a bird sings", "ein Vögelchen")


def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture
def tokens(root: Path) -> TextTokens:
    return TextTokens(functools.partial(trained_tokenizer, "animals", texts, 300), 12)


def test_texts_begin_and_end_with_their_token_and_are_padded(tokens: TextTokens):
    vocabulary = tokens.vocabulary()
    found = tokens.encode(list(TEXTS))
    assert (vocabulary.padding, vocabulary.end, vocabulary.length) == (0, 1, 12) and 258 < vocabulary.size <= 300
    for ids, mask in zip(found["input_ids"].tolist(), found["attention_mask"].tolist(), strict=True):
        count = sum(mask)
        assert ids[0] == ids[count - 1] == 1 and mask == [1] * count + [0] * (12 - count) and set(ids[count:]) <= {0}
    decoded = [tokens.decode({name: part[row] for name, part in found.items()}) for row in range(4)]
    assert decoded[:3] == list(TEXTS[:3])


def test_pairs_say_which_text_a_token_is_of(tokens: TextTokens):
    found = tokens.encode([(TEXTS[0], TEXTS[2])])
    kinds, mask = found["token_type_ids"][0], found["attention_mask"][0]
    assert kinds[mask > 0].unique_consecutive().tolist() == [0, 1]
    assert tokens.decode({name: part[0] for name, part in found.items()}) == f"{TEXTS[0]}\n{TEXTS[2]}"


def test_answers_begin_with_padding_and_end_with_their_token(tokens: TextTokens):
    answered = AnsweredTokens(tokens.load, 12, 8)
    found = answered.encode([("the cat sleeps", "here"), ("a bird", "sings")])
    alone = tokens.encode(["here", "sings"])
    assert found["input_ids"].shape == (2, 12) and found["decoder_input_ids"].shape == (2, 8)
    assert found["decoder_input_ids"][:, 0].tolist() == [0, 0]
    assert torch.equal(found["decoder_input_ids"][:, 1:], alone["input_ids"][:, 1:8])
    assert torch.equal(found["decoder_attention_mask"], alone["attention_mask"][:, :8])
    assert answered.decode({name: part[1] for name, part in found.items()}) == "a bird\nsings"


def test_answers_of_a_tokenizer_that_marks_no_beginning_lose_no_token(tokens: TextTokens):
    """T5's has a token at a text's end alone."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokens.load()
    with_both = AnsweredTokens(lambda: tokenizer, 12, 8).encode([("the cat", "sleeps here")])
    tokenizer.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))])
    answered = AnsweredTokens(lambda: tokenizer, 12, 8)
    found = answered.encode([("the cat", "sleeps here")])
    for name in ("decoder_input_ids", "decoder_attention_mask"):
        assert torch.equal(found[name], with_both[name])
    short = AnsweredTokens(lambda: tokenizer, 12, 3).encode([("the cat", "sleeps here now")])
    assert short["decoder_input_ids"].shape == (1, 3) and short["decoder_input_ids"][0, 2] == tokenizer.token_to_id(END)
    assert answered.vocabulary().answers and not tokens.vocabulary().answers


def test_a_trained_tokenizer_is_kept_and_belongs_to_its_texts(root: Path):
    trained_tokenizer("animals", texts, 300)
    (path,) = (root / "data" / "tokenizers").glob("animals_300_*.json")
    content = path.read_bytes()
    trained_tokenizer("animals", lambda: (*TEXTS, "more"), 300)
    assert len(list(path.parent.glob("animals_300_*.json"))) == 2 and path.read_bytes() == content
    assert END in path.read_text() and PADDING in path.read_text()
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged; delete it, and it is trained again"):
        trained_tokenizer("animals", lambda: TEXTS, 300)


def test_tokenizers_by_name(root: Path, tokens: TextTokens, tmp_path: Path):
    folder = tmp_path / "base"
    folder.mkdir()
    tokens.load().save(str(folder / "tokenizer.json"))
    named = TextTokens(functools.partial(tokenizer_named, str(folder)), 12)
    assert named.vocabulary() == tokens.vocabulary()
    with pytest.raises(UserError, match="cannot be read.*give a folder that holds tokenizer.json"):
        (folder / "tokenizer.json").write_text("{}")
        tokenizer_named.__wrapped__(str(folder))


def test_tokens_within_a_place(tokens: TextTokens):
    text = "the dog sleeps here"
    ids = tokens.encode([text, text])["input_ids"]
    inside = tokens.within([text, text], [(4, 7), (8, 14)])
    assert inside.shape == (2, 12)
    decode = tokens.load().decode
    assert [decode(ids[row][inside[row]].tolist()).strip() for row in range(2)] == ["dog", "sleeps"]
    assert not tokens.within([text], [(len(text), len(text) + 5)]).any()
