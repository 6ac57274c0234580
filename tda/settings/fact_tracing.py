"""Constants and arguments of the step that asks which texts state a fact, and which make a model give it."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class FactTracing(OfScores):
    """Which facts are asked for, by which methods texts are found and left out, and how often models are trained again."""

    methods: tuple[str, ...]
    """Methods that find texts, such as trak,bm25, scored first where they lack scores; without any all on disk."""
    num_checkpoints: int
    """A seed's score is the mean over this many of its last checkpoints, or over all where fewer are stored."""
    num_facts: int
    """Facts to ask for: the first of the test subset that training texts state and the members learned."""
    rank: int
    """A fact is learned if half of the seeds rank its answer so or better, among all tokens; 1: greedy decoding gives it."""
    found: int
    """Recall is the share of the stating texts among so many first."""
    removed: int
    """Texts to leave out for each fact; 0 trains nothing again."""
    removed_by: tuple[str, ...]
    """Methods whose most helpful texts are left out, beside random ones and those that state the fact; without any all."""
    significance_of: tuple[str, ...]
    """Methods whose significant helpful texts are left out too, and as many helpful ones that are not significant."""
    level: float
    """A text is significantly helpful for a fact if its q-value lies below this."""
    num_retrainings: int
    """Models trained again on what is left, each with its own seed, to which what falls is paired."""
    facts_at_once: int
    """Facts whose texts are left out of one training, none for two of them; 1 trains for every fact alone."""
    alone: int
    """Facts that are checked alone as well, of the first method of --removed_by."""
