"""Step 7: how smooth a training is as a function of its examples' weights, hence how far derivatives through it reach.

Reads data/subset_indices/<task>/ and the data set; no ensemble is needed.
Writes into results/<experiment>/
  metasmoothness.csv     for each experiment and number of removed examples: empirical metasmoothness of the trained parameters
                         (Engstrom et al. 2025) and the same of the test losses, 1 at best; forecast, the rank correlation of a
                         small step's effect with that of the removal; test loss and accuracy; 95 % intervals over seeds
  metasmoothness.png and .pdf    the forecast against the number of removed examples
  metasmoothness/        one small file a seed and number of removed examples; a killed run continues with what is missing
Cost: variants x seeds x (3 x numbers of removed examples + 2) x directions trainings.
"""

from tda.settings import Metasmoothness, run

SETTINGS = Metasmoothness(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    variants=(),
    removed=(1, 2, 8),
    weight_step=0.1,
    num_directions=10,
    seed_id=None,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
