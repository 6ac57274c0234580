"""Constants and arguments of the step that draws the subsets."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class SubsetGeneration:
    """Which subsets of which task."""

    task: str
    """Task to draw for: digits3, mnist3, cifar10, another of tda/data/tasks.py, or your own; it may end in _flipped20 or
    _whole.
    """
    num_per_class: int | None
    """Training examples per class to draw, for a task that ends in _whole those to score; without it 10, 20 and 50."""
    draw_seed: int
    """Seed of the draw; with one seed a larger subset contains a smaller one. Existing files stay unless --force."""
    force: bool = False
    """Draw again even where an index file exists; members trained on the old one are then refused."""
