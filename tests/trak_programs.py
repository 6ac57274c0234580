"""Programs as users of the package trak write them, but for the imports, and models small enough for explicit matrices.

Run as a script, with a folder as its argument, it computes the scores of an image classifier with two checkpoints; with the
word `large` behind it, in shards and by blocks.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from tda.system.files import write_bytes
from tda.trak import TRAKer
from tda.trak.modelout_functions import AbstractModelOutput

TRAIN, TARGETS, DIMENSION = 20, 6, 8


def image_model(seed: int = 0) -> nn.Module:
    """A convolution, a batch normalisation with statistics of its own and three logits, in float64."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.running_mean)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.GELU(), nn.Flatten(), nn.Linear(64, 3)).double()


def states(count: int = 2) -> list[dict]:
    """Checkpoints of the image classifier."""
    return [image_model(seed).state_dict() for seed in range(count)]


def bert(seed: int = 0) -> nn.Module:
    """A tiny BERT with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    config = BertConfig(**sizes, max_position_embeddings=16, attn_implementation="eager")
    return BertForSequenceClassification(config).double()


def image_data(count: int, seed: int = 0) -> TensorDataset:
    """Images (count, 1, 6, 6) and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 6, 6, generator=generator, dtype=torch.float64)
    return TensorDataset(images, torch.randint(3, (count,), generator=generator))


def text_data(count: int, seed: int = 0) -> TensorDataset:
    """Tokens, their types, an attention mask (count, 7) and labels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 19, (count, 7), generator=generator)
    lengths = torch.randint(3, 8, (count, 1), generator=generator)
    mask = (torch.arange(7) < lengths).long()
    return TensorDataset(tokens * mask, torch.zeros_like(tokens), mask, torch.randint(2, (count,), generator=generator))


def language_data(count: int, seed: int = 0) -> TensorDataset:
    """Tokens, an attention mask and labels, -100 where there is padding (count, 7)."""
    tokens, _, mask, _ = text_data(count, seed).tensors
    return TensorDataset(tokens, mask, torch.where(mask > 0, tokens, -100))


class ImageOutput(AbstractModelOutput):
    """The margin of an image classifier, written out by a user."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(-1)

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, image: Tensor, label: Tensor) -> Tensor:
        """log p of the label less the logsumexp of the others."""
        logits = torch.func.functional_call(model, (weights, buffers), image.unsqueeze(0))
        others = logits.masked_fill(torch.arange(logits.shape[1]) == label, -torch.inf)
        return (logits[0, label.unsqueeze(0)] - others.logsumexp(dim=-1)).sum()

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """1 - p of the label."""
        images, labels = batch
        logits = torch.func.functional_call(model, (weights, buffers), images)
        return (1 - self.softmax(logits)[torch.arange(len(labels)), labels]).clone().detach().unsqueeze(-1)


class TextOutput(AbstractModelOutput):
    """The margin of a transformers model, whose logits are an attribute of what it returns."""

    def __init__(self) -> None:
        super().__init__()

    def get_output(self, model: nn.Module, weights: dict, buffers: dict, *example: Tensor) -> Tensor:
        """The label's logit less the logsumexp of the others."""
        *inputs, label = example
        names = ("input_ids", "token_type_ids", "attention_mask")
        keywords = {name: tensor.unsqueeze(0) for name, tensor in zip(names, inputs, strict=True)}
        logits = torch.func.functional_call(model, (weights, buffers), args=(), kwargs=keywords).logits
        others = logits.masked_fill(torch.arange(logits.shape[1]) == label, -torch.inf)
        return (logits[0, label.unsqueeze(0)] - others.logsumexp(dim=-1)).sum()

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: list[Tensor]) -> Tensor:
        """1 - p of the label."""
        tokens, types, mask, labels = batch
        keywords = {"input_ids": tokens, "token_type_ids": types, "attention_mask": mask}
        logits = torch.func.functional_call(model, (weights, buffers), args=(), kwargs=keywords).logits
        return (1 - logits.softmax(-1)[torch.arange(len(labels)), labels]).clone().detach().unsqueeze(-1)


def scores_of(
    model: nn.Module,
    checkpoints: list[dict],
    train: TensorDataset,
    targets: TensorDataset,
    batch_size: int = 6,
    task: AbstractModelOutput | str = "image_classification",
    exp_name: str = "quickstart",
    **options: object,
) -> Tensor:
    """The whole program, with one checkpoint after the other."""
    traker = TRAKer(model=model, task=task, train_set_size=len(train), device="cpu", proj_dim=DIMENSION, **options)
    for model_id, checkpoint in enumerate(checkpoints):
        traker.load_checkpoint(checkpoint, model_id=model_id)
        for batch in DataLoader(train, batch_size=batch_size, shuffle=False):
            traker.featurize(batch=batch, num_samples=batch[0].shape[0])
    traker.finalize_features()
    for model_id, checkpoint in enumerate(checkpoints):
        traker.start_scoring_checkpoint(exp_name=exp_name, checkpoint=checkpoint, model_id=model_id, num_targets=len(targets))
        for batch in DataLoader(targets, batch_size=batch_size, shuffle=False):
            traker.score(batch=batch, num_samples=batch[0].shape[0])
    return torch.tensor(traker.finalize_scores(exp_name=exp_name))


def extremes_of_shards(save_dir: str, train: TensorDataset, targets: TensorDataset, batch_size: int = 3) -> None:
    """The program for what is large: three shards, their merge, no features, float16, a small budget, no score matrix."""
    options = {"train_set_size": len(train), "save_dir": save_dir, "device": "cpu", "proj_dim": DIMENSION}
    options |= {"use_half_precision": True, "keep_features": False, "memory_budget": 2**14}
    traker = TRAKer(image_model(), "image_classification", **options)
    bounds = [0, len(train) // 3, len(train) // 2, len(train)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        for model_id, checkpoint in enumerate(states()):
            traker.load_checkpoint(checkpoint, model_id, shard=(start, stop))
            for batch in DataLoader(Subset(train, range(start, stop)), batch_size=batch_size):
                traker.featurize(batch, num_samples=len(batch[0]))
    traker.merge_shards()
    traker.finalize_features()
    for model_id, checkpoint in enumerate(states()):
        traker.start_scoring_checkpoint("large", checkpoint, model_id, len(targets))
        for batch in DataLoader(targets, batch_size=batch_size):
            traker.score(batch, num_samples=len(batch[0]))
    found = traker.top_examples("large", k=5)
    write_bytes(Path(save_dir) / "extremes.npy", found.helpful.tobytes() + found.harmful_scores.tobytes())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("started", flush=True)
    data = image_data(200), image_data(40, seed=1)
    if sys.argv[2:] == ["large"]:
        extremes_of_shards(sys.argv[1], *data)
    else:
        scores_of(image_model(), states(), *data, batch_size=3, save_dir=sys.argv[1])
    print("finished", flush=True)
