"""The published algorithms, written plainly from their definitions: one pair, one model, one test example at a time.

This is what Nguyen, Seo and Oh (2023) describe and what a first implementation looks like: DataLoaders, autograd, no shared
work. Only orientation (positive = helpful), batch orders and the definition of leave-one-out follow this project, so
that the numbers can be compared. What the published scripts do around the algorithm is here too: images are read through
torchvision's data set whenever they are used, and leave-one-out and added steps read the checkpoint and write
the whole table for every training example.
"""

import copy
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset


def in_memory(split) -> Dataset:
    """(image, label) pairs of a split from its tensors."""
    return TensorDataset(split.inputs, split.labels)


def read_when_used(task: str, split, is_train: bool, folder: Path) -> Dataset:
    """(image, label) pairs of a split, each decoded, converted and normalised by torchvision whenever it is asked for."""
    from torchvision import datasets, transforms

    steps = [transforms.ToTensor()]
    if task == "cifar10":
        steps.append(transforms.Normalize((0.5,) * 3, (0.5,) * 3))
    kinds = {"mnist3": datasets.MNIST, "cifar10": datasets.CIFAR10}
    whole = kinds[task](folder, train=is_train, transform=transforms.Compose(steps))
    return Subset(whole, split.indices.tolist())


class Table:
    """A table of scores that is written anew, whole, for every training example."""

    def __init__(self, path: Path, train_indices: list[int], test_indices: list[int]):
        self.path = path
        self.columns = [f"z_test_{index}" for index in test_indices]
        self.frame = pd.DataFrame(columns=["train_idx", *self.columns])
        self.frame["train_idx"] = train_indices

    def enter(self, row: int, scores: Tensor) -> None:
        """Set a training example's scores (n_test,) and write."""
        self.frame.loc[row, self.columns] = scores.numpy()
        self.frame.to_csv(self.path, index=False)


def flat_gradient(model: nn.Module, images: Tensor, labels: Tensor, graph: bool = False) -> Tensor:
    """Gradient of the mean loss of a batch with respect to all trained parameters, end to end: (p,)."""
    loss = functional.cross_entropy(model(images), labels)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, create_graph=graph)
    return torch.cat([gradient.flatten() for gradient in gradients])


def pair_scores(model: nn.Module, train: DataLoader, test: DataLoader) -> tuple[Tensor, Tensor]:
    """Grad-Dot and Grad-Cos (n_train, n_test); a training gradient is computed anew for each pair."""
    dots, cosines = [], []
    for test_image, test_label in test:
        test_gradient = flat_gradient(model, test_image, test_label)
        for image, label in train:
            gradient = flat_gradient(model, image, label)
            dots.append(torch.dot(test_gradient, gradient).item())
            cosines.append(functional.cosine_similarity(test_gradient, gradient, dim=0).item())
    shape = (len(test.dataset), len(train.dataset))
    return torch.tensor(dots).reshape(shape).T, torch.tensor(cosines).reshape(shape).T


def lissa_scores(
    model: nn.Module, train: DataLoader, test: DataLoader, batches: DataLoader, damping: float, scale: float
) -> Tensor:
    """Influence (n_train, n_test): one recursion over the batches for each test example, then one gradient for each pair."""
    scores = []
    for test_image, test_label in test:
        vector = flat_gradient(model, test_image, test_label)
        estimate = vector
        for images, labels in batches:
            gradient = flat_gradient(model, images, labels, graph=True)
            products = torch.autograd.grad(torch.dot(gradient, estimate), list(model.parameters()))
            hessian_product = torch.cat([product.flatten() for product in products])
            estimate = vector + (1 - damping) * estimate - hessian_product / scale
        s_test = estimate / scale
        scores += [torch.dot(flat_gradient(model, image, label), s_test).item() for image, label in train]
    return torch.tensor(scores).reshape(len(test.dataset), -1).T


def test_losses(model: nn.Module, test: DataLoader) -> Tensor:
    """Loss of each test example (n_test,)."""
    model.eval()
    with torch.no_grad():
        return torch.cat([functional.cross_entropy(model(images), labels, reduction="none") for images, labels in test])


class _WithPosition(Dataset):
    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple:
        return *self.dataset[position], position


def retrained(model: nn.Module, plan, batches: Iterable[Tensor], train: Dataset, removed: int | None) -> nn.Module:
    """A copy of the untrained model, trained without one example's term."""
    model = copy.deepcopy(model)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    for images, labels, positions in DataLoader(_WithPosition(train), batch_sampler=[batch.tolist() for batch in batches]):
        losses = functional.cross_entropy(model(images), labels, reduction="none")
        if removed is not None:
            losses = losses * (positions != removed).to(losses.device)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return model


def added_step_changes(
    model: nn.Module, plan, optimizer_state: dict, image: Tensor, label: int | Tensor, test: DataLoader
) -> Tensor:
    """Test losses before minus after one training step of a copy on one example (n_test,)."""
    before = test_losses(model, test)
    stepped = copy.deepcopy(model)
    stepped.train()
    optimizer = torch.optim.Adam(stepped.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(optimizer_state)})
    functional.cross_entropy(stepped(image[None]), torch.as_tensor(label, device=image.device)[None]).backward()
    optimizer.step()
    return before - test_losses(stepped, test)
