"""What the options of a variant do to a family of models: to its training plan, and to the network itself."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from tda.data.tasks import Task
from tda.experiments.variant_names import options_of, variant_name
from tda.models.families import ModelFamily
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError

# Options of the plan, and the field that each sets; those without a number switch it on.
_FIELDS = {
    "inside": "adam_epsilon_inside",
    "momentum": "momentum",
    "rate": "learning_rate",
    "decay": "linear_decay",
    "clip": "gradient_clipping",
    "batch": "batch_size",
    "epochs": "epochs",
    "keep": "num_kept_epochs",
}


class ScaledLogits(nn.Module):
    """A last module that multiplies logits by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


def family_of_variant(family: ModelFamily, task: Task, variant: str) -> ModelFamily:
    """The family as the variant trains it on the task; its members say in their origin how their networks are altered.

    Raises UserError for options that do not fit the family, or that name what its plan does anyway, and as options_of does.
    """
    chosen = options_of(variant)
    if not chosen:
        return family
    planned = {word: number for word, number in chosen.items() if word in _FIELDS}
    altered = {word: number for word, number in chosen.items() if word not in _FIELDS}
    for word in altered:
        if word not in family.alterable:
            able = f"its options are {', '.join([*_FIELDS, *family.alterable])}"
            raise UserError(f"{word} does not fit --model {family.name}, a {family.title}; {able}")
    if altered.get("logits") == 1:
        raise UserError("logits1 multiplies the logits by 1, which changes nothing; leave it out of --variant")
    _check(family, task, planned)
    return _altered(family, planned, altered)


def _check(family: ModelFamily, task: Task, planned: dict[str, float | int | None]) -> None:
    """Raise UserError unless every option changes the family's plan, and all together make one."""
    plan = family.plan(task)
    for word, number in planned.items():
        if getattr(plan, _FIELDS[word]) == (True if number is None else number):
            text = variant_name(f"{word}{'' if number is None else number}")
            raise UserError(f"{text} is how --model {family.name} trains on {task.name} anyway; leave it out of --variant")
    if plan.momentum is None and "momentum" in planned and "rate" not in planned:
        raise UserError(f"momentum without Adam needs a rate of its own, such as momentum{planned['momentum']:g}_rate0.01")
    if "inside" in planned and (plan.momentum is not None or "momentum" in planned):
        raise UserError(
            "inside is Adam's epsilon, but this plan trains by SGD with momentum; leave one of them out of --variant"
        )
    _planned(plan, planned)


def _planned(plan: TrainingPlan, planned: dict[str, float | int | None]) -> TrainingPlan:
    fields = {_FIELDS[word]: True if number is None else number for word, number in planned.items()}
    early = tuple(epoch for epoch in plan.early_epochs if epoch < fields.get("epochs", plan.epochs))
    return replace(plan, early_epochs=early, **fields)


def _altered(
    family: ModelFamily, planned: dict[str, float | int | None], altered: dict[str, float | int | None]
) -> ModelFamily:
    def build(task: Task) -> nn.Module:
        model = family.build(task)
        for word, number in altered.items():
            _ALTERATIONS[word](model, number)
        return model

    def origin(task: Task) -> dict:
        return family.origin(task) | ({"altered": altered} if altered else {})

    fine_tuned = family.fine_tuned and (lambda choices: _altered(family.fine_tuned(choices), planned, altered))
    return replace(
        family, build=build, plan=lambda task: _planned(family.plan(task), planned), origin=origin, fine_tuned=fine_tuned
    )


def _average_pooling(model: nn.Module, _: None) -> None:
    _replace_modules(model, nn.MaxPool2d, lambda old: nn.AvgPool2d(old.kernel_size, old.stride, old.padding, old.ceil_mode))


def _smooth_activations(model: nn.Module, _: None) -> None:
    _replace_modules(model, nn.ReLU, lambda _: nn.GELU())


def _scaled_logits(model: nn.Sequential, factor: float) -> None:
    model.append(ScaledLogits(factor))


def _replace_modules(model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))


_ALTERATIONS = {"gelu": _smooth_activations, "pool": _average_pooling, "logits": _scaled_logits}
