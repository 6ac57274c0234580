"""Constants and arguments of the step that leaves out the training pairs most helpful to target pairs of image and text."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class PairRemoval(OfScores):
    """Which pairs are targets, by which methods pairs are named and left out, and how often models are trained again."""

    methods: tuple[str, ...]
    """Methods that name pairs, such as trak,repsim, scored first where they lack scores; without any all on disk."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
    num_targets: int
    """Target pairs: the first of the test subset that the members find."""
    rank: int
    """A target is found if half of the seeds rank its own text and its own image so or better among the test subset's."""
    removed: int
    """Training pairs to leave out for each target; 0 trains nothing again."""
    removed_by: tuple[str, ...]
    """Methods whose most helpful pairs are left out, beside random ones; without any all."""
    num_retrainings: int
    """Models trained again on what is left, each with its own seed, to which falls are paired."""
    listed: int
    """Pairs of each method to list for each target."""
    shown: int
    """Targets in the gallery of the first method of --removed_by."""
