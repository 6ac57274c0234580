"""Constants and arguments of the step that lists each test example's most helpful and most harmful training examples."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class TopExamples(OfScores):
    """How many examples, by which methods' scores, and from where those come."""

    methods: tuple[str, ...]
    """Methods whose score files are read, such as trak,grad_dot; without any all on disk."""
    k: int
    """Training examples at each end, for each test example."""
    streamed: bool
    """Take trak_projected's scores straight from projected gradients, kept on disk, whether or not it has score files."""
    half_precision: bool
    """Keep those projected gradients in float16, at half the disk space."""
    dimension: int
    """Dimension of those projected gradients."""
    num_checkpoints: int
    """The ensemble is so many of each seed's last checkpoints, or all where fewer are stored."""
    memory_budget: float
    """GiB of scores and gradients that are held at once; the whole matrix never is."""
