"""Attribution of one continuation: numbers against scores by hand, the table, one's own checkpoints, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_facts
import torch
from conftest import make_root, run_here
from torch.nn import functional

from tda.data.tokenizers import trained_tokenizer
from tda.models.causal_bases import causal_base
from tda.models.model_state import trained_parameters
from tda.models.vit_base import silence_transformers
from tda.statistics.pair_statistics import benjamini_hochberg, signal_to_noise, t_test
from tda.system.errors import UserError
from tda.training.members import load_members
from tda.training.study import open_study

FOLDER = tiny_facts.EXPERIMENT.results
ASKED = {**tiny_facts.CHOSEN, "prompt": "anna lives", "continuation": "in rome", "methods": ("grad_dot", "grad_cos", "bm25")}


@pytest.fixture(scope="module")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TDA_ROOT", str(folder))
        make_root(folder)
        tiny_facts.prepare(folder, monkeypatch)
        run_here("run_language_training.py", **tiny_facts.CHOSEN)
    return folder


@pytest.fixture
def trained(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    shutil.copytree(trained_root, folder)
    monkeypatch.setenv("TDA_ROOT", str(folder))
    tiny_facts.prepare(folder, monkeypatch)
    return folder


def statement() -> dict:
    (path,) = (FOLDER.path / "text_attributions").glob("*.json")
    return json.loads(path.read_text())


def gradient(model: torch.nn.Module, tokens: list[int], first: int, last: int) -> torch.Tensor:
    """Of the mean loss of tokens first to last, given those before them."""
    logits = model(torch.tensor([tokens])).logits[0].double()
    loss = functional.cross_entropy(logits[first - 1 : last], torch.tensor(tokens[first : last + 1]))
    parts = torch.autograd.grad(loss, list(trained_parameters(model).values()))
    return torch.cat([part.flatten() for part in parts]).double()


def test_scores_shares_and_q_are_those_of_autograd(trained: Path):
    said = run_here("run_text_attribution.py", **ASKED, num_texts=24)
    study = open_study(tiny_facts.EXPERIMENT, "cpu")
    kind = study.task.kind
    asked = kind.encode(["anna lives in rome"])
    size = int(asked["attention_mask"].sum()) - 1
    tokens = asked["input_ids"][0, :size].tolist()
    first = size - int(kind.within(["anna lives in rome"], [(10, 18)]).sum())
    sample, shares = [], []
    for seed_id in range(3):
        (member,) = load_members(study, seed_id, [study.plan.epochs])
        texts = []
        for row in range(24):
            count = int(study.train.inputs["attention_mask"][row].sum())
            texts.append(gradient(member.model, study.train.inputs["input_ids"][row, :count].tolist(), 1, count - 1))
        texts = torch.stack(texts)
        sample.append((texts @ gradient(member.model, tokens, first, size - 1)).numpy())
        each = [texts @ gradient(member.model, tokens, place, place) / (size - first) for place in range(first, size)]
        shares.append(torch.stack(each, dim=1).numpy())
    sample = np.stack(sample)
    found = statement()
    assert found["prompt"] == "anna lives" and found["tokens"] == [" in", " rome"] and found["continuation"] == " in rome"
    rows = {row["train_idx"]: row for row in found["methods"][0]["rows"]}
    assert len(rows) == 24
    ratio = signal_to_noise(sample.mean(axis=0), sample.std(axis=0, ddof=1))
    q = benjamini_hochberg(t_test(ratio, 3))
    scale = np.abs(sample).max()
    for place, index in enumerate(study.train.indices.tolist()):
        row = rows[index]
        assert row["mean"] == pytest.approx(sample[:, place].mean(), abs=1e-4 * scale)
        assert row["std"] == pytest.approx(sample[:, place].std(ddof=1), abs=1e-4 * scale)
        assert row["q"] == pytest.approx(q[place], rel=0.02)
        np.testing.assert_allclose(row["shares"], np.mean(shares, axis=0)[place], atol=1e-4 * scale)
        assert sum(row["shares"]) == pytest.approx(row["mean"], rel=1e-9, abs=1e-12)
    cosine, words = found["methods"][1:]
    assert all(sum(row["shares"]) == pytest.approx(row["mean"], rel=1e-6, abs=1e-9) for row in cosine["rows"])
    assert all(row["shares"] is None and row["q"] is None for row in words["rows"])
    assert "rome" in words["rows"][0]["text"] or "anna" in words["rows"][0]["text"]
    lines = said.splitlines()
    assert max(map(len, lines[:-1])) <= 100 and "in /" in lines[-1] and "Grad-Dot" in said
    table = pd.read_csv(next((FOLDER.path / "text_attributions").glob("*.csv")))
    assert set(table["method"]) == {"grad_dot", "grad_cos", "bm25"} and "share_2_rome" in " ".join(table.columns)


def test_the_model_s_own_continuation_is_what_most_seeds_say(trained: Path, monkeypatch: pytest.MonkeyPatch):
    said = run_here("run_text_attribution.py", **ASKED | {"continuation": None, "methods": ("grad_dot",)}, num_texts=2)
    found = statement()
    assert found["said"].count(found["continuation"]) == max(map(found["said"].count, found["said"]))
    assert (
        len(found["said"]) == 3 and [row["direction"] for row in found["methods"][0]["rows"]] == ["helps"] * 2 + ["opposes"] * 2
    )
    assert not list((FOLDER.path / "text_attributions").glob("*_parts"))
    monkeypatch.setattr("tda.steps.text_attribution.scores_of_seed", None)
    again = run_here("run_text_attribution.py", **ASKED | {"continuation": None, "methods": ("grad_dot",)}, num_texts=2)
    assert again == said


def test_an_interrupted_run_keeps_the_seeds_that_it_did(trained: Path, monkeypatch: pytest.MonkeyPatch):
    from tda.steps import text_attribution

    whole, calls = text_attribution.scores_of_seed, []

    def failing(members, *others):
        calls.append(members[0].seed_id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(members, *others)

    monkeypatch.setattr(text_attribution, "scores_of_seed", failing)
    with pytest.raises(KeyboardInterrupt):
        run_here("run_text_attribution.py", **ASKED)
    run_here("run_text_attribution.py", **ASKED)
    assert calls == [0, 1, 2, 2] and len(statement()["methods"]) == 3


@pytest.fixture
def own(root: Path) -> Path:
    """A folder with an untrained GPT-2 and its tokenizer, as save_pretrained writes them, and a table of texts."""
    return saved_model(root, "gpt2")


def saved_model(root: Path, kind: str) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    silence_transformers()
    folder = root / "mine"
    tokenizer = trained_tokenizer("few_facts", tiny_facts._texts, 320)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 12, "vocab_size": tokenizer.get_vocab_size()}
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    else:
        names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
        names |= {"n_positions": "max_position_embeddings", "vocab_size": "vocab_size"}
        shapes = {names[key]: value for key, value in sizes.items()} | {"num_key_value_heads": 1, "intermediate_size": 8}
        model = LlamaForCausalLM(LlamaConfig(**shapes, bos_token_id=1, eos_token_id=1))
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    pd.DataFrame({"words": tiny_facts._texts()}).to_csv(root / "texts.csv", index=False)
    return folder


def test_a_checkpoint_of_one_s_own_with_texts_of_one_s_own(own: Path, root: Path):
    chosen = {"prompt": "anna lives", "base": (str(own),), "texts": str(root / "texts.csv"), "column": "words", "length": 10}
    chosen |= {"continuation": "in rome", "num_texts": 3}
    said = run_here("run_text_attribution.py", **chosen, methods=("grad_dot", "trak", "bm25"))
    assert "Grad-Dot" in said and "own_mine_texts_" in said.splitlines()[-1]
    (path,) = root.glob("results/own_mine_*/text_attributions/*.json")
    found = json.loads(path.read_text())
    assert found["seeds"] == 1 and all(row["std"] is None and row["q"] is None for row in found["methods"][0]["rows"])
    assert found["methods"][0]["rows"][0]["text"] in tiny_facts._texts()
    assert all(sum(row["shares"]) == pytest.approx(row["mean"], rel=1e-6) for row in found["methods"][0]["rows"])
    for changed, words in (
        ({"texts": None}, "--base needs --texts"),
        ({"texts": "nowhere.csv"}, "--texts nowhere.csv is missing"),
        ({"column": "text"}, "has no column text"),
        ({"length": 13}, "--length 13 is out of range"),
        ({"base": (str(root),)}, "cannot be loaded as a causal language model"),
        ({"methods": ("loo",)}, "method loo follows a training"),
    ):
        with pytest.raises(UserError, match=words):
            run_here("run_text_attribution.py", **{**chosen, "methods": ("grad_dot",)} | changed)


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "mine holds NaN or infinity in transformer.wte.weight"), (1e38, "scores by grad_dot of seed 0")],
)
def test_a_broken_checkpoint_of_one_s_own_is_refused(own: Path, root: Path, value: float, words: str):
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(own)
    model.transformer.wte.weight.data.fill_(value)
    model.save_pretrained(own)
    chosen = {"base": (str(own),), "texts": str(root / "texts.csv"), "column": "words", "length": 10}
    with pytest.raises(UserError, match=words):
        run_here("run_text_attribution.py", **chosen, prompt="anna", continuation="is from", methods=("grad_dot",))


def test_another_architecture_of_one_s_own_is_scored_as_autograd_does(root: Path):
    """Of the family of Llama: grouped heads, rotations for places, and norms of the root mean square."""
    folder = saved_model(root, "llama")
    chosen = {"base": (str(folder),), "texts": str(root / "texts.csv"), "column": "words", "length": 10}
    run_here("run_text_attribution.py", **chosen, prompt="anna", continuation="is from", methods=("grad_dot",), num_texts=24)
    (path,) = root.glob("results/own_mine_*/text_attributions/*.json")
    (method,) = json.loads(path.read_text())["methods"]
    model, kind = causal_base(str(folder)), tiny_facts.TASK.kind
    asked = kind.encode(["anna is from"])
    tokens = asked["input_ids"][0, : int(asked["attention_mask"].sum()) - 1].tolist()
    wanted = gradient(model, tokens, 2, len(tokens) - 1)
    texts = tiny_facts._texts()
    for row in method["rows"]:
        encoded = kind.encode([texts[row["train_idx"]]])
        count = int(encoded["attention_mask"].sum())
        found = gradient(model, encoded["input_ids"][0, :count].tolist(), 1, count - 1) @ wanted
        assert row["mean"] == pytest.approx(float(found), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_texts": 0}, "--num_texts 0 is too small"),
        ({"methods": ()}, "--methods names none"),
        ({"prompt": " "}, "no letters"),
        ({"continuation": ""}, "no tokens to attribute"),
        ({"texts": "x.csv"}, "--texts are of models of one's own"),
        ({"seed_id": 9}, "seed_id 9 is out of range"),
        ({"task": "few_facts_2"}, "unknown task few_facts_2"),
    ],
)
def test_unusable_settings_are_refused(trained: Path, changed: dict, words: str):
    with pytest.raises(UserError, match=words):
        run_here("run_text_attribution.py", **ASKED | changed)
