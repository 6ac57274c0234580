"""Step 6, optional: choose the damping of a method by subsets that judge nothing.

Reads the ensemble's checkpoints of one seed and run_subset_retraining.py's retrainings with --purpose fitting.
Writes results/<experiment>/damping_choice_<method>.csv: for each candidate the LDS on the fitting subsets, with its 95 %
bootstrap interval. The subsets of --purpose evaluation, which judge the methods in run_lds_evaluation.py, are never read.
Cost: one scoring of one member for each candidate.
"""

from dataclasses import dataclass

from tda.steps.damping_choice import DampingSettings, choose_damping
from tda.system.command_line import run_script


@dataclass
class Settings(DampingSettings):
    """The constants to edit."""


if __name__ == "__main__":
    run_script(Settings, choose_damping)
