"""Constants and arguments of the step that keeps s_test."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfSeeds


@dataclass(kw_only=True)
class STest(OfSeeds):
    """Whose inverse-curvature products are kept, and what is scored by them."""

    method: str
    """Influence function whose s_test is kept: if (Gauss-Newton matrix) or if_lissa."""
    damping: float | None
    """Number added to the diagonal of the curvature; without it the method's own default."""
    num_checkpoints: int
    """Last checkpoints of each seed to keep s_test for; one costs as many bytes as 4 x test examples x parameters."""
    new_indices: str
    """Text file of indices into the task's training part, one a line: examples to score; without it none are."""
