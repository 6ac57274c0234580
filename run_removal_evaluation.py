"""Step 7: brittleness: remove the most helpful training examples of a test example by each method, and retrain.

Reads results/<experiment>/tda_scores/ of all methods found there, and the data.
Writes into results/<experiment>/
  removal.csv            for each method and share: fall of the margin with a 95 % bootstrap interval over test examples, the
                         share of predictions that change, and the fall as a multiple of that by random removal
  removal.png and .pdf   the same as curves
  retrainings/           one small file a retraining; a killed run continues with what is missing
Cost: methods x shares x test examples x seeds retrainings.
"""

from dataclasses import dataclass

from tda.steps.removal_evaluation import RemovalSettings, evaluate_removal
from tda.system.command_line import run_script


@dataclass
class Settings(RemovalSettings):
    """The constants to edit."""

    experiment: str = "mlp_mnist_500pc"
    num_test: int = 20
    num_seeds: int = 3


if __name__ == "__main__":
    run_script(Settings, evaluate_removal)
