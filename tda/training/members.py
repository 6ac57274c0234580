"""Ensemble members: one checkpoint of one seed, kept as safetensors with everything that a method needs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tda.data.splits import Split
from tda.data.tasks import Task, task_named
from tda.experiments.folders import Experiment
from tda.experiments.seeds import seed_of
from tda.models.families import ModelFamily, family_named, family_of, new_model
from tda.models.fine_tuning import FineTuning
from tda.models.model_state import ModelState, trained_parameters, write_state
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.files import sha256, write_bytes
from tda.training.many_models import on_device, resident_split

FORMAT = 1


@dataclass(frozen=True)
class Member:
    """One checkpoint of one seed.

    info: what the checkpoint says of itself (train_loss, test_accuracy, data fingerprint, versions, ...).
    cache: intermediate results that several methods share, for as long as the member lives.
    """

    experiment: Experiment
    seed_id: int
    epoch: int
    state: ModelState
    info: dict
    device: torch.device
    cache: dict = field(default_factory=dict)

    @property
    def family(self) -> ModelFamily:
        """How models of this experiment are built and trained."""
        return family_of(self.experiment)

    @property
    def task(self) -> Task:
        """The task of this experiment."""
        return task_named(self.experiment.task)

    @property
    def plan(self) -> TrainingPlan:
        """How the member was trained."""
        return self.family.plan(self.task)

    @property
    def seed(self) -> int:
        """The random seed itself."""
        return self.info["seed"]

    @cached_property
    def model(self) -> nn.Module:
        """The model with the checkpoint's parameters, in evaluation mode, on the member's device."""
        model = new_model(self.family, self.task, self.seed)
        write_state(self.state, model)
        return on_device(model, self.device).eval()

    def inputs(self, split: Split) -> Split:
        """The split on the member's device, its images as the member's model takes them."""
        return model_inputs(self.family, self.task, split, self.device)

    def remember(self, key: str, compute: Callable[[], Any]) -> Any:
        """Compute once per member."""
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key]


def model_inputs(family: ModelFamily, task: Task, split: Split, device: torch.device) -> Split:
    """The split on a device, its images as the family's models take them."""
    return resident_split(Split(family.inputs(task, split.images), split.labels, split.indices), device)


def save_checkpoint(experiment: Experiment, seed_id: int, epoch: int, state: ModelState, info: dict) -> None:
    """Write one checkpoint atomically, with `info` (plain values) in its metadata.

    Raises UserError, and writes nothing, if a value is not finite.
    """
    tensors = {f"parameter:{name}": tensor for name, tensor in state.parameters.items()}
    tensors |= {f"buffer:{name}": tensor for name, tensor in state.buffers.items()}
    for quantity, by_name in state.optimizer.items():
        tensors |= {f"optimizer:{quantity}:{name}": tensor for name, tensor in by_name.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"training diverged: {name} of seed {seed_id} holds NaN or infinity after epoch {epoch}; nothing was written"
            )
    described = {
        **info,
        "format": FORMAT,
        "experiment": experiment.name,
        "seed_id": seed_id,
        "epoch": epoch,
        "sha256": _content_hash(tensors),
    }
    # One metadata entry only: safetensors writes several in an order that changes from run to run.
    content = safetensors.torch.save(tensors, {"tda": json.dumps(described, sort_keys=True)})
    write_bytes(experiment.checkpoint_file(seed_id, epoch), content)


def load_member(experiment: Experiment, seed_id: int, epoch: int, data: str, device: torch.device) -> Member:
    """Read one checkpoint and check it; `data` is the fingerprint of the training split it must have seen.

    Raises UserError if the file is missing, damaged, of another experiment, seed, epoch, data, base model or network.
    """
    path = experiment.checkpoint_file(seed_id, epoch)
    family, task = family_named(experiment.model), task_named(experiment.task)
    again = f"{family.training_script} --model {family.name} --task {task.name} --num_per_class {experiment.num_per_class}"
    if not path.exists():
        raise UserError(f"{path} is missing; train the ensemble first with {again}")
    tensors, info = _read(path, again)
    expected = {
        "format": FORMAT,
        "experiment": experiment.name,
        "seed_id": seed_id,
        "epoch": epoch,
        "seed": seed_of(seed_id),
    }
    for key, value in expected.items():
        if info.get(key) != value:
            raise UserError(f"{path} is foreign: its {key} is {info.get(key)}, not {value}; delete it and run {again}")
    experiment = _with_origin(experiment, info.get("origin", {}), path, again)
    family = family_of(experiment)
    if info["data"] != data:
        raise UserError(f"{path} was trained on other examples than the index file now names; run {again} --force")
    if TrainingPlan(epochs=task.epochs).as_dict() | info["plan"] != family.plan(task).as_dict():
        raise UserError(f"{path} was trained with another training plan than the code now has; run {again} --force")
    state = _as_state(tensors)
    shapes = {name: parameter.shape for name, parameter in trained_parameters(new_model(family, task, seed=0)).items()}
    if {name: tensor.shape for name, tensor in state.parameters.items()} != shapes:
        raise UserError(f"{path} holds another network than the {family.title} of {task.name}; delete it and run {again}")
    return Member(experiment, seed_id, epoch, state, info, device)


def _with_origin(experiment: Experiment, origin: dict, path: Path, again: str) -> Experiment:
    """The experiment with the choices of fine-tuning that a checkpoint was made with.

    Raises UserError if the experiment names other choices, or if the base model is no longer the one that the member knew.
    """
    if experiment.fine_tuning is None and origin:
        choices = {entry.name: origin.get(entry.name) for entry in fields(FineTuning)}
        experiment = replace(experiment, fine_tuning=FineTuning(**choices))
    expected = family_of(experiment).origin(task_named(experiment.task))
    for key in sorted(expected.keys() | origin.keys()):
        if expected.get(key) != origin.get(key):
            raise UserError(
                f"{path} was fine-tuned with {key} {origin.get(key)}, but {key} is now {expected.get(key)}; choose that again, "
                f"or replace the members with {again} --force"
            )
    return experiment


def _read(path: Path, again: str) -> tuple[dict[str, Tensor], dict]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            info = json.loads(file.metadata()["tda"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        intact = _content_hash(tensors) == info["sha256"]
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a whole checkpoint of this project; delete it and run {again}") from error
    if not intact:
        raise UserError(f"{path} is damaged: its tensors do not match its checksum; delete it and run {again}")
    return tensors, info


def _content_hash(tensors: dict[str, Tensor]) -> str:
    parts = []
    for name, tensor in sorted(tensors.items()):
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), tensor.contiguous().numpy().tobytes()]
    return sha256(*parts)


def _as_state(tensors: dict[str, Tensor]) -> ModelState:
    parameters, buffers, optimizer = {}, {}, {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        if kind == "parameter":
            parameters[name] = tensor
        elif kind == "buffer":
            buffers[name] = tensor
        else:
            quantity, _, name = name.partition(":")
            optimizer.setdefault(quantity, {})[name] = tensor
    return ModelState(parameters, buffers, optimizer)
