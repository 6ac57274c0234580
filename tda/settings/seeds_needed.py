"""Constants and arguments of the step that asks how many seeds a verdict needs."""

from dataclasses import dataclass

from tda.settings.of_experiment import OfScores


@dataclass(kw_only=True)
class SeedsNeeded(OfScores):
    """Which experiment's scores, at how many seeds, by how many pairs."""

    counts: tuple[int, ...]
    """Numbers of seeds whose verdicts are compared with those of all, such as 3,5,10,20,50; larger ones fall away."""
    draws: int
    """Random parts of each number of seeds."""
    num_pairs: int
    """Pairs that are tested, drawn once at random of all: the resampling tests take seconds for a thousand."""
    num_checkpoints: int
    """The last checkpoints that a seed's score is averaged over."""
    simulations: int
    """Simulated pairs for each law of noise, number of seeds and effect, from which error rates and power are told."""
    force: bool = False
    """Accepted as by every script; this one always writes everything anew."""
