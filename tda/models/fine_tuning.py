"""How members are fine-tuned from a pre-trained base model by low-rank adapters (Hu et al., ICLR 2022)."""

from dataclasses import asdict, dataclass

EMBEDDED_BASE = "embedded"
"""Name of the small base model that the project pre-trains itself, where no hub can be reached."""


@dataclass(frozen=True)
class FineTuning:
    """What is chosen once for an experiment, and written into each of its checkpoints.

    base: hub name or local folder of the base model, or EMBEDDED_BASE; rank, alpha, dropout: of the adapters, whose output is
    scaled by alpha / rank; random_crop, mixed_precision: as in TrainingPlan.
    """

    base: str = EMBEDDED_BASE
    rank: int = 16
    alpha: int = 16
    dropout: float = 0.1
    random_crop: bool = False
    mixed_precision: bool = False

    def as_dict(self) -> dict:
        """Plain values for metadata."""
        return asdict(self)
