"""Models of transformers as they come: tied words, fused attention, 16 bits, dict batches, padding, and programs' own tasks."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_traker import closed_form, combined
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset
from trak_programs import DIMENSION, TARGETS, TRAIN, language_data, scores_of, text_data

from tda.system.errors import UserError
from tda.trak import TRAKer
from tda.trak.modelout_functions import AbstractModelOutput, task_output

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    return BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=16))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, tie_word_embeddings=True))


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0))


def classes(count: int, seed: int) -> dict[str, Tensor]:
    tokens, _, mask, labels = text_data(count, seed)[:]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def next_tokens(count: int, seed: int) -> dict[str, Tensor]:
    tokens, mask, labels = language_data(count, seed)[:]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def answers(count: int, seed: int) -> dict[str, Tensor]:
    tokens, _, mask, _ = text_data(count, seed)[:]
    return {"input_ids": tokens, "attention_mask": mask, "labels": language_data(count, seed + 5)[:][2][:, :5]}


CASES: dict[str, tuple[str, Callable[[], nn.Module], Callable[[int, int], dict[str, Tensor]]]] = {
    "BERT": ("text_classification", bert, classes),
    "GPT-2": ("language_modeling", gpt2, next_tokens),
    "Llama": ("language_modeling", llama, next_tokens),
    "T5": ("sequence_to_sequence", t5, answers),
}


def made(case: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model whose parameters are all far from zero."""
    torch.manual_seed(0)
    model = CASES[case][1]().eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.to(dtype)


def padded(batch: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The batch with more padding, of a token that the mask leaves out."""
    fill = {"labels": -100, "attention_mask": 0, "input_ids": 7}
    longer = {
        name: nn.functional.pad(part, (0, count), value=fill[name]) if part.dim() > 1 else part for name, part in batch.items()
    }
    return longer


def rows_of(case: str, model: nn.Module, batches: list[dict[str, Tensor]], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, DIMENSION) and Q (n,) of the batches, one after another."""
    counts = [len(batch["labels"]) for batch in batches]
    traker = TRAKer(model, CASES[case][0], sum(counts), folder, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), 0)
    for batch, count in zip(batches, counts, strict=True):
        traker.featurize(batch, num_samples=count)
    return tuple(np.array(np.load(folder / "0" / f"{part}.npy")) for part in ("gradients", "out_to_loss"))


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_closed_form(case: str, tmp_path: Path):
    model, batches = made(case), [CASES[case][2](count, seed) for count, seed in ((TRAIN, 0), (TARGETS, 1))]
    train, targets = (TensorDataset(*batch.values()) for batch in batches)
    task, checkpoints = task_output(CASES[case][0]), [model.state_dict()]
    found = scores_of(model, checkpoints, train, targets, task=CASES[case][0], save_dir=tmp_path)
    torch.testing.assert_close(
        found, combined(closed_form(model, checkpoints, task, train, targets, None)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("case", CASES)
def test_neither_padding_nor_length_nor_the_cut_of_batches_counts(case: str, tmp_path: Path):
    model, batch = made(case, torch.float32), CASES[case][2](TRAIN, 0)
    expected = rows_of(case, model, [batch], tmp_path / "whole")
    parts = [{name: part[rows] for name, part in batch.items()} for rows in (slice(0, 1), slice(1, 8), slice(8, TRAIN))]
    lengths = [padded(part, more) for part, more in zip(parts, (0, 3, 5), strict=True)]
    for folder, cut in (("parts", parts), ("lengths", lengths)):
        for found, right in zip(rows_of(case, model, cut, tmp_path / folder), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("case", CASES)
def test_models_and_checkpoints_of_16_bits(case: str, tmp_path: Path):
    model, batch = made(case, torch.bfloat16), CASES[case][2](TRAIN, 0)
    exact = copy.deepcopy(model).double()
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    found, expected = (rows_of(case, each, [batch], tmp_path / str(i)) for i, each in enumerate((model, exact)))
    assert found[0].dtype == np.float32
    for part, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, right, atol=2e-5 * np.abs(right).max())


@pytest.mark.parametrize("case", ["GPT-2", "T5"])
def test_a_text_without_a_counted_label_has_a_row_of_zeros(case: str, tmp_path: Path):
    batch = CASES[case][2](TRAIN, 0)
    batch["labels"][3] = -100
    rows, reweighting = rows_of(case, made(case), [batch], tmp_path)
    assert not rows[3].any() and reweighting[3] == 0
    assert (np.abs(np.delete(rows, 3, 0)).max(axis=1) > 0).all()


class OwnAnswers(AbstractModelOutput):
    """The task of T5 as a program writes it, by torch's own functional_call."""

    def get_output(self, model: nn.Module, weights: dict, buffers: dict, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Mean margin of the labels of one example."""
        counted = labels >= 0
        p = self._probabilities(model, weights, buffers, ids[None], mask[None], labels[None])[0]
        return ((p / (1 - p)).log() * counted).sum() / counted.sum()

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """Mean 1 - p."""
        counted = batch[2] >= 0
        return ((1 - self._probabilities(model, weights, buffers, *batch)) * counted).sum(1) / counted.sum(1)

    def _probabilities(
        self, model: nn.Module, weights: dict, buffers: dict, ids: Tensor, mask: Tensor, labels: Tensor
    ) -> Tensor:
        keywords = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        logits = functional_call(model, (weights, buffers), (), keywords).logits
        return logits.softmax(-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)


def test_an_own_task_leaves_a_module_in_two_places_as_it_was(tmp_path: Path):
    model = made("T5")
    # One module that the encoder and the decoder hold, as set_input_embeddings makes it.
    model.set_input_embeddings(nn.Embedding(20, 8).double())
    assert model.encoder.embed_tokens is model.decoder.embed_tokens
    own = {name: parameter for name, parameter in model.named_parameters()}
    train, targets = (TensorDataset(*answers(count, seed).values()) for count, seed in ((TRAIN, 0), (TARGETS, 1)))
    checkpoints = [copy.deepcopy(model.state_dict())] * 2
    expected = scores_of(model, checkpoints, train, targets, task="sequence_to_sequence", save_dir=tmp_path / "named")
    found = scores_of(model, checkpoints, train, targets, task=OwnAnswers(), save_dir=tmp_path / "own")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert all(parameter is own[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize("kind", ["vocabulary", "first", "length", "labels"])
def test_tokens_and_labels_that_do_not_fit_are_one_sentence(kind: str, tmp_path: Path):
    ids = torch.randint(1, 20, (4, 20 if kind == "length" else 8), generator=torch.Generator().manual_seed(0))
    labels = ids[:, 1:] if kind == "labels" else ids.clone()
    ids[0 if kind == "first" else 2, 3] = 25 if kind in ("vocabulary", "first") else 3
    model = gpt2()
    traker = TRAKer(model, "language_modeling", 4, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), 0)
    words = {"vocabulary": "an example of this batch", "labels": r"the labels are \(4, 7\) and the tokens \(4, 8\)"}
    with pytest.raises(UserError, match=words.get(kind, "the model cannot be called with input_ids")):
        traker.featurize([ids, torch.ones_like(ids), labels], num_samples=4)


def test_tokens_that_do_not_fit_are_one_sentence_on_a_gpu_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A GPU tells of them where its results are waited for: at the latest where rows are written."""

    def waiting(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported late")

    model, ids = gpt2(), torch.randint(1, 20, (4, 8), generator=torch.Generator().manual_seed(0))
    traker = TRAKer(model, "language_modeling", 4, tmp_path, device="cpu", proj_dim=DIMENSION)
    traker.load_checkpoint(model.state_dict(), 0)
    monkeypatch.setattr(traker._rows, "write", waiting)
    with pytest.raises(UserError, match=r"this batch \(CUDA error: device-side assert triggered\); a token"):
        traker.featurize([ids, torch.ones_like(ids), ids.clone()], num_samples=4)
