"""Small pictures with texts that say their colour, and two towers small enough for explicit matrices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tda.data.index_files import write_subset
from tda.data.kinds import ImageKind, ImageTextKind, TextKind
from tda.data.pools import Pool
from tda.data.task_entry import Task
from tda.data.tasks import task_named
from tda.data.tokenizers import Vocabulary
from tda.experiments.folders import Experiment
from tda.gradients.objectives import Pairing
from tda.models.contrastive import Comparison, ContrastiveModel, Side

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "grey": (128, 128, 128)}
PLACES = ("above", "below")
WORDS = ["", *COLOURS, *PLACES, "is", "it", "end"]
LENGTH, SIZE = 5, 8
EXPERIMENT = Experiment("clip", "tiny_pairs", 24)
CHOSEN = {"model": "clip", "task": "tiny_pairs", "num_per_class": 24, "variant": ""}


def encode(texts: list[str]) -> dict[str, Tensor]:
    """Token ids and mask (n, LENGTH); the last word of every text is the one of the largest id. Unknown words are left out."""
    rows = [[WORDS.index(word) for word in text.split() if word in WORDS] + [WORDS.index("end")] for text in texts]
    tokens = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long()}


def decode(tokens: dict[str, Tensor]) -> str:
    """The words that the mask counts, but the last."""
    return " ".join(WORDS[number] for number in tokens["input_ids"][tokens["attention_mask"] > 0].tolist()[:-1])


def vocabulary() -> Vocabulary:
    """What models of transformers must know."""
    return Vocabulary(size=len(WORDS), length=LENGTH, padding=0, end=WORDS.index("end"), sha256="")


def pairs(part: str) -> Pool:
    """40 noisy pictures of one colour in their upper or lower half, or 24, with texts that say which."""
    generator = np.random.default_rng(0 if part == "train" else 1)
    pictures, texts = [], []
    for number in range(40 if part == "train" else 24):
        colour, place = list(COLOURS)[number % 4], PLACES[number // 4 % 2]
        picture = generator.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8)
        half = slice(0, SIZE // 2) if place == "above" else slice(SIZE // 2, SIZE)
        picture[half] += np.array(COLOURS[colour], dtype=np.uint8) // 2
        pictures.append(picture)
        texts.append(f"it is {colour} {place}" if number % 3 else f"{colour} {place}")
    return Pool((np.stack(pictures), np.array(texts, dtype=object)), np.zeros(len(texts), dtype=np.int64))


TASK = Task(
    name="tiny_pairs",
    title="colours and where they are",
    classes=(0,),
    class_names=("pair",),
    epochs=8,
    test_per_class=12,
    load=pairs,
    kind=ImageTextKind(ImageKind(3, SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), TextKind(encode, decode, vocabulary)),
    objective=Pairing(),
)


class Pixels(nn.Module):
    """A convolution and a mean over places: (n, 3, SIZE, SIZE) to (n, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, stride=2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Means of five channels."""
        return torch.tanh(self.layer(pixel_values)).mean((2, 3))


class Words(nn.Module):
    """A mean of embeddings: (n, LENGTH) to (n, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(WORDS), 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Means over the words that the mask counts."""
        counted = attention_mask[..., None].to(self.table.weight)
        return (self.table(input_ids) * counted).sum(1) / counted.sum(1)


def two_towers() -> ContrastiveModel:
    """A new model that takes pixels and words, from torch's global generator."""
    sides = [Side(tower, nn.Linear(width, 4, bias=False)) for tower, width in ((Pixels(), 5), (Words(), 6))]
    return ContrastiveModel(*sides, Comparison(), "pixel_values").eval()


def clip_folder(folder: Path) -> Path:
    """A CLIPModel of transformers for the task, with random weights, saved."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    shared = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = shared | {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "eos_token_id": WORDS.index("end")}
    text |= {"bos_token_id": None, "pad_token_id": 0}
    vision = shared | {"image_size": SIZE, "patch_size": 4}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)).save_pretrained(folder)
    return folder


def prepare(root: Path) -> None:
    """The task among the user's own, and its index files."""
    (root / "tasks").mkdir(exist_ok=True)
    (root / "tasks" / "tiny_pairs.py").write_text("import tiny_pairs\n\nTASK = tiny_pairs.TASK\n")
    for part, count in (("train", 24), ("test", 12)):
        write_subset(task_named("tiny_pairs"), part, count, draw_seed=0, force=True)


@pytest.fixture
def pair_root(root: Path) -> Path:
    """A root folder with the task."""
    prepare(root)
    return root
