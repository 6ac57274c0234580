"""What the plain algorithms run in: the published scripts' surroundings, or the bare algorithm."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import plain
import torch
from common import load
from torch.utils.data import Dataset

from tda.system.devices import prepare_process

STYLES = {
    "scripts": "plain, as the published scripts work",
    "tensors": "plain, images from memory",
    "tuned": "plain, images from memory, this project's process settings",
}


@dataclass
class Surroundings:
    """What a plain contender works with, by its style.

    "scripts": images are read through torchvision and, for leave-one-out and added steps, the checkpoint is read and the table
    written for every training example, as the published scripts do; "tensors": images from memory, nothing else;
    "tuned": the same with this project's process settings.
    """

    members: list
    train: Dataset
    test: Dataset
    splits: tuple
    folder: tempfile.TemporaryDirectory
    scripts: bool

    @classmethod
    def of(cls, task: str, num_per_class: int, device: str, style: str) -> "Surroundings":
        from tda.experiments.folders import data_folder

        if style == "tuned":
            prepare_process()
        members, train, test = load(task, num_per_class, device, fast_layout=False)
        if style == "scripts":
            datasets = [plain.read_when_used(task, split, split is train, data_folder()) for split in (train, test)]
        else:
            datasets = [plain.in_memory(train), plain.in_memory(test)]
        folder = tempfile.TemporaryDirectory()
        torch.save(members[-1].model.state_dict(), Path(folder.name) / "checkpoint.pth")
        return cls(members, *datasets, (train, test), folder, style == "scripts")

    def table(self) -> plain.Table:
        """An empty table of scores."""
        train, test = self.splits
        return plain.Table(Path(self.folder.name) / "scores.csv", train.indices.tolist(), test.indices.tolist())

    def read_checkpoint(self, model: torch.nn.Module) -> None:
        """Read the finished model's parameters, where the scripts do."""
        if self.scripts:
            model.load_state_dict(torch.load(Path(self.folder.name) / "checkpoint.pth", weights_only=True))

    def write(self, table: plain.Table, row: int, scores: torch.Tensor) -> None:
        """Enter a row and write the table, where the scripts do."""
        if self.scripts:
            table.enter(row, scores.cpu())
