"""Convolutional networks whose classifier, last stage, or all stages are fine-tuned from a frozen base (see image_bases.py).

What the frozen stages make of an image is computed once and kept on disk; a model takes that, or the task's images themselves.
"""

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tda.data.kinds import ImageKind
from tda.data.tasks import Task
from tda.models.fine_tuning import LayerTuning
from tda.models.frozen_outputs import frozen_outputs
from tda.models.image_bases import ImageBase
from tda.models.shared_weights import SharesFrozenWeights
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError

BaseLoader = Callable[[str], ImageBase]


class Preparation(nn.Module):
    """A task's normalised images (n, 1 or 3, side, side) as a base takes them: (n, 3, size, size), normalised its way.

    Resizing is torch's antialiased bilinear one, as a product with a matrix, which can be differentiated any number of times.
    """

    def __init__(self, kind: ImageKind, base_mean: Sequence[float], base_std: Sequence[float], size: int) -> None:
        """kind: of the task's images; base_mean, base_std: what the base takes images in [0, 1] normalised by."""
        super().__init__()
        self.channels = kind.channels
        rows = functional.interpolate(torch.eye(kind.size)[None, None], (size, kind.size), mode="bilinear", antialias=True)
        mean, std, base_mean, base_std = (
            torch.tensor(values).expand(3).view(3, 1, 1) for values in (kind.mean, kind.std, base_mean, base_std)
        )
        # Frozen parameters: they go where the model goes, and no checkpoint holds them.
        self.rows, self.scale, self.shift = (
            nn.Parameter(values.clone(), requires_grad=False)
            for values in (rows[0, 0], std / base_std, (mean - base_mean) / base_std)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Both sides resized, then normalised."""
        return self.rows @ images @ self.rows.mT * self.scale + self.shift


class LayerTunedClassifier(SharesFrozenWeights):
    """Frozen stages, trained stages and a trained linear classifier; copies share the frozen weights' memory.

    Nothing in it depends on whether it trains, nor on the other examples of a batch.
    """

    def __init__(self, preparation: Preparation, frozen: nn.Module, above: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.preparation, self.frozen, self.above = preparation, frozen, above
        self.classifier = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, classes) of the task's images, or of what the frozen stages made of them."""
        if inputs.dim() == 4 and inputs.shape[1] == self.preparation.channels:
            inputs = self.frozen(self.preparation(inputs))
        return self.classifier(self.above(inputs))

    def initialise(self) -> None:
        """Draw a new classifier from torch's global generator."""
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)


def build(load: BaseLoader, choices: LayerTuning, task: Task) -> LayerTunedClassifier:
    """The base with a new classifier for the task's classes; the frozen weights are shared with every other model of it."""
    model = copy.deepcopy(_template(base_of(load, choices.base), choices, task))
    model.initialise()
    return model


def plan(choices: LayerTuning, task: Task) -> TrainingPlan:
    """Adam: the classifier alone at 1e-3 for 20 epochs, more layers at a lower rate that decays, for fewer.

    A classifier of a thousand numbers remembers wrong labels unless its weights are held down, hence their strong decay.
    Checkpoints of all layers are large, so that fewer are kept.
    """
    if choices.trained == "head":
        return TrainingPlan(epochs=20, weight_decay=0.05)
    if choices.trained == "upper":
        return TrainingPlan(epochs=8, learning_rate=1e-4, num_kept_epochs=3, linear_decay=True)
    return TrainingPlan(epochs=5, learning_rate=1e-4, num_kept_epochs=1, linear_decay=True)


def inputs(name: str, load: BaseLoader, choices: LayerTuning, task: Task, images: Tensor, device: torch.device) -> Tensor:
    """What a model takes for the task's images (n, c, h, w): what the frozen stages make of them, computed on the device once.

    name: of the family, below whose folder of models the results are kept. Where all layers are trained: the images.
    """
    return images if choices.trained == "all" else _inputs(name, base_of(load, choices.base), choices, task, images, device)


def origin(load: BaseLoader, choices: LayerTuning, task: Task) -> dict:
    """The choices of fine-tuning and the hash of the base's weights."""
    return choices.as_dict() | {"base_sha256": base_of(load, choices.base).sha256}


def base_of(load: BaseLoader, name: str) -> ImageBase:
    """The base of this name, loaded once per process and version of a folder; raises UserError as the family's loader does."""
    folder = Path(name)
    return _loaded(load, name, max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0) if folder.is_dir() else 0)


@lru_cache(maxsize=4)
def _loaded(load: BaseLoader, name: str, changed: int) -> ImageBase:
    return load(name)


@lru_cache(maxsize=4)
def _template(base: ImageBase, choices: LayerTuning, task: Task) -> LayerTunedClassifier:
    if not (hasattr(task.kind, "channels") and task.kind.channels in (1, 3)):
        raise UserError(f"task {task.name} has no images, which this model classifies; choose another --model")
    above = copy.deepcopy(base.above(choices.trained)).requires_grad_(True)
    # Building draws a classifier; what the seed fixes must not depend on whether the template was there already.
    with torch.random.fork_rng(devices=[]):
        preparation = Preparation(task.kind, base.mean, base.std, choices.image_size)
        frozen = base.frozen(choices.trained)
        return LayerTunedClassifier(preparation, frozen, above, base.width, len(task.classes)).eval()


# Every step asks for the inputs of the same two splits several times; a tensor is its own key.
@lru_cache(maxsize=2)
def _inputs(name: str, base: ImageBase, choices: LayerTuning, task: Task, images: Tensor, device: torch.device) -> Tensor:
    model = _template(base, choices, task)
    made_from = {
        "base_sha256": base.sha256,
        "trained": choices.trained,
        "image_size": choices.image_size,
        "mean": list(task.kind.mean),
        "std": list(task.kind.std),
    }
    compute = nn.Sequential(model.preparation, model.frozen)
    return frozen_outputs(name, compute, images, made_from, device)
