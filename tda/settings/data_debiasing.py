"""Constants and arguments of the step that removes or relabels training examples, and trains again."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class DataDebiasing(OfScores):
    """Which test examples matter, which training examples go, how many, and how often models are trained without them."""

    matter: str
    """What is to become better: groups (each weighs exp(beta * its loss): D3M), worst_group, all, or a file of test indices."""
    groups: tuple[str, ...]
    """Groups of test examples: known (the data set's, else classes), classes, or auto (pseudo-groups of scores, Auto-D3M)."""
    beta: float
    """How much more a group of larger loss counts where groups matter: 1 is D3M's, 0 counts all alike."""
    methods: tuple[str, ...]
    """Methods whose scores choose, such as trak,if; without any all on disk."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
    selections: tuple[str, ...]
    """Of negative, positive, significant, class_balanced, group_balanced, highest_loss, self_influence, confident_learning,
    left_out, forgetting, neighbours; without any all that are possible. Random ones stand beside them always."""
    self_influence: tuple[str, ...]
    """Methods whose score of each training example for itself is a selection; they must need nothing but a checkpoint."""
    own_scores: tuple[str, ...]
    """CSV files of one's own with the columns index and score, each a selection more: the lowest score goes first."""
    neighbours: int
    """How many nearest training examples are asked for their labels."""
    num_folds: int
    """Folds of the retraining that says what models think of examples that they did not see."""
    fold_seeds: int
    """How many times the folds are drawn and trained on, with the seeds of as many members."""
    actions: tuple[str, ...]
    """What becomes of the chosen examples: remove, relabel (by the out-of-fold prediction), or both, one after another."""
    shares: tuple[float, ...]
    """Shares of the training set to choose; what is significant, flagged or all negative is chosen too, whatever its number."""
    level: float
    """An example is significantly harmful if its q-value lies below this."""
    selection_share: float
    """Share of the test subset that chooses; the rest, which no choice has seen, is reported on."""
    division: int
    """Which random division of the test subset, counted from 0."""
    num_retrainings: int
    """Models trained on each changed training set, with the seeds of as many members, or of all, to which they are paired."""
    random_draws: int
    """Random removals of each number for each seed."""
    shown: int
    """Training examples in each gallery."""
