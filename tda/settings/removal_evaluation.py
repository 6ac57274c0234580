"""Constants and arguments of the step that retrains without the most helpful examples."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class RemovalEvaluation(OfScores):
    """How much is removed, for which test examples, by which methods."""

    shares: tuple[float, ...]
    """Shares of the training set to remove, most helpful first."""
    num_test: int
    """Test examples to explain: the first of the test subset, in which classes take turns."""
    num_retrainings: int
    """Retrainings of each removal, with the seeds of as many retrainings with nothing removed."""
    same_run: bool = False
    """Repeat the runs of the first --num_retrainings members, each by its own scores' ranking, into removal_same_run.csv."""
    methods: tuple[str, ...]
    """Methods to judge, such as trak,grad_dot; without any all on disk."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
