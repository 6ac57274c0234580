"""Step 5: how many seeds a verdict needs, by the t-test and by three tests that are said to be more robust.

Reads an ensemble's scores (step 3), of as many seeds as there are; 50 tell more than 10.
Writes into results/<experiment>/
  seeds_needed.csv     for each method, test and number of seeds: how many of the pairs that the t-test on all seeds calls
                       reliable are called so, how many of the others, and how often the sign is wrong
  seed_test_errors.csv simulated: how often each test calls pairs reliable, on five laws of noise, with an effect and without
  seeds_needed.png and .pdf    both as a picture
Cost: most of it is resampling, 9,999 times draws x num_pairs x seeds numbers for each method and number of seeds.
"""

from tda.settings import SeedsNeeded, run

SETTINGS = SeedsNeeded(
    experiment=None,
    model="cnn",
    task="digits3",
    num_per_class=10,
    variant="",
    counts=(3, 5, 10, 20, 50),
    draws=20,
    num_pairs=1000,
    num_checkpoints=5,
    simulations=1000,
    num_seeds=None,
    device="auto",
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
