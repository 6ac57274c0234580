"""How a model is trained: optimizer, rates, batches, and which epochs are kept."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch

from tda.models.adam_inside_root import AdamInsideRoot
from tda.models.gradient_clipping import clip
from tda.system.errors import UserError
from tda.system.random_streams import stream

# Choices that a plan names only where they are made.
_OPTIONAL = ("adam_epsilon_inside", "gradient_clipping", "warm_up")


@dataclass(frozen=True)
class TrainingPlan:
    """Adam, or SGD with momentum, with weight decay on the mean cross-entropy of shuffled batches.

    momentum: None trains by Adam, a number by SGD with that momentum.
    early_epochs: epochs kept besides the last ones, for methods that follow the training; no other method scores them.
    linear_decay: the rate falls to 0 over the training, from its end of warm-up on; warm_up: the share of the steps, above 0
    and below 1, over which it first rises linearly from 0; random_crop: a training step sees a random crop of each image,
    resized; mixed_precision: a training step computes in bfloat16 where that is safe. All four concern whole trainings only: a
    single step that a score takes is at the full rate, on whole images, in float32.
    decoupled_decay: parameters shrink by rate x weight_decay of themselves beside Adam's update (AdamW: Loshchilov and Hutter
    2019); else weight decay's term is added to the gradient.
    adam_epsilon_inside: Adam's update is m_hat / sqrt(v_hat + this) (Engstrom et al. 2025); None is torch's Adam, with 1e-8
    outside the root. gradient_clipping: the whole gradient of a step, without weight decay's term, is scaled down to at most
    this Euclidean norm before the optimizer sees it; None leaves it as it is.
    Raises UserError if one is not positive, for a warm-up that is no share, and where epsilon is to stand in the root of SGD,
    or decay to be decoupled from what is not torch's Adam.
    """

    epochs: int
    learning_rate: float = 1e-3
    weight_decay: float = 5e-3
    batch_size: int = 32
    num_kept_epochs: int = 5
    momentum: float | None = None
    early_epochs: tuple[int, ...] = ()
    linear_decay: bool = False
    random_crop: bool = False
    mixed_precision: bool = False
    adam_epsilon_inside: float | None = None
    gradient_clipping: float | None = None
    warm_up: float | None = None
    decoupled_decay: bool = False

    def __post_init__(self) -> None:
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} of a training plan must be positive, not {value}")
        if self.momentum is not None and not self.momentum < 1:
            raise UserError(f"momentum of a training plan must be below 1, not {self.momentum}")
        if self.momentum is not None and self.adam_epsilon_inside is not None:
            raise UserError("adam_epsilon_inside is for plans that train by Adam; this one trains by SGD with momentum")
        if self.decoupled_decay and (self.momentum is not None or self.adam_epsilon_inside is not None):
            raise UserError("decoupled_decay is for plans that train by torch's Adam, with its epsilon outside the root")
        if self.warm_up is not None and not self.warm_up < 1:
            raise UserError(f"warm_up of a training plan must be a share below 1 of its steps, not {self.warm_up}")

    @property
    def rate_changes(self) -> bool:
        """Whether the learning rate depends on the place of a step in the training."""
        return bool(self.linear_decay or self.warm_up)

    @property
    def coupled_decay(self) -> float:
        """The weight decay whose term is added to the gradient, 0 where it is decoupled."""
        return 0.0 if self.decoupled_decay else self.weight_decay

    def shrinking(self, rate: float) -> float:
        """What a step at this rate multiplies the parameters with beside its update: 1 unless weight decay is decoupled."""
        return 1 - rate * self.weight_decay if self.decoupled_decay else 1.0

    def rate(self, step: int, num_steps: int) -> float:
        """Learning rate of a training's step, counted from 1."""
        rising = round((self.warm_up or 0.0) * num_steps)
        if step <= rising:
            return self.learning_rate * step / rising
        return (
            self.learning_rate * (1 - (step - 1 - rising) / (num_steps - rising)) if self.linear_decay else self.learning_rate
        )

    def optimizer(
        self,
        parameters: Iterable[torch.Tensor],
        capturable: bool = False,
        stacked: bool = False,
        rate: torch.Tensor | None = None,
    ) -> torch.optim.Optimizer:
        """The optimizer over the parameters, which clips gradients if the plan does.

        capturable: it may be captured in a graph. stacked: the parameters are those of many models along a first axis. rate: a
        number () on their device that takes the place of the learning rate and may change from step to step, in a graph too.
        """
        parameters = list(parameters)
        optimizer = self._optimizer(parameters, capturable, self.learning_rate if rate is None else rate)
        if self.gradient_clipping is not None:
            limit = self.gradient_clipping
            optimizer.register_step_pre_hook(lambda *_: clip(parameters, limit, stacked))
        return optimizer

    def _optimizer(self, parameters: list[torch.Tensor], capturable: bool, rate: float | torch.Tensor) -> torch.optim.Optimizer:
        shared = {"lr": rate, "weight_decay": self.weight_decay}
        if self.adam_epsilon_inside is not None:
            return AdamInsideRoot(parameters, epsilon=self.adam_epsilon_inside, capturable=capturable, **shared)
        # Fused, since steps of small models are overhead.
        if self.momentum is None:
            kind = torch.optim.AdamW if self.decoupled_decay else torch.optim.Adam
            return kind(parameters, capturable=capturable, fused=True, **shared)
        return torch.optim.SGD(parameters, momentum=self.momentum, fused=True, **shared)

    @property
    def kept_epochs(self) -> list[int]:
        """The last epochs, counted from 1, whose checkpoints are kept and scored."""
        return list(range(self.epochs + 1 - min(self.num_kept_epochs, self.epochs), self.epochs + 1))

    @property
    def checkpoint_epochs(self) -> list[int]:
        """Every epoch whose checkpoint is kept, ascending."""
        return sorted({*self.early_epochs, *self.kept_epochs})

    def steps_per_epoch(self, num_train: int) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-num_train // self.batch_size)

    def batches(self, seed: int, num_train: int) -> list[torch.Tensor]:
        """Indices of every batch of the whole training, in the order that the seed's own stream fixes."""
        generator = stream(seed, "batch order")
        order = [torch.randperm(num_train, generator=generator) for _ in range(self.epochs)]
        return [batch for epoch in order for batch in epoch.split(self.batch_size)]

    def as_dict(self) -> dict:
        """Plain values for metadata: all that numbers depend on, hence not the early epochs, nor choices that are not made."""
        values = {name: value for name, value in asdict(self).items() if name != "early_epochs"}
        if not self.decoupled_decay:
            del values["decoupled_decay"]
        return {name: value for name, value in values.items() if value is not None or name not in _OPTIONAL}


def parse_epochs(text: str) -> tuple[int, ...]:
    """Epochs from text such as "1,2,5", ascending; empty text is none. Raises UserError if a part is not a positive number."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"epochs are numbers from 1, separated by commas, such as 1,2,5, not {text!r}")
    return tuple(sorted({int(part) for part in parts}))
