"""Constants and arguments of the step that asks what scores are good for."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class ScoreMetrics(OfScores):
    """Which metrics, of which scores."""

    metrics: tuple[str, ...]
    """Of wrong_labels, class, group, overlap, randomised; all: those for which the experiment has what they need."""
    methods: tuple[str, ...]
    """Methods whose score files are judged, such as trak,grad_dot; without any all on disk."""
    self_influence: tuple[str, ...]
    """Methods whose self-influence looks for wrong labels; scored here, on the last checkpoint, by their default settings."""
    suspicions: tuple[str, ...]
    """What else looks for wrong labels, of the table in docs/score-metrics.md."""
    compare_with: str
    """The score from which every other's distance is told, with an interval, where it is among those computed."""
    randomised: tuple[str, ...]
    """Methods that are scored again with the trained parameters' entries in random places; they need their score files."""
    folds: int
    """Parts of the training set, each predicted by models of the others, for out_of_fold and cleanlab."""
    highest: int
    """How many of a test example's highest scored training examples are looked at."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
