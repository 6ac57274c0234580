"""Step 1: draw the balanced subsets that every later step uses.

Reads the task's data set (downloaded by torchvision when absent) and data/subset_indices/<task>/.
Writes data/subset_indices/<task>/train_<n>pc.txt and test_<n>pc.txt, one index a line; files that exist are checked
and kept. Cost: seconds.
"""

from tda.settings import SubsetGeneration, run

SETTINGS = SubsetGeneration(
    task="digits3",
    num_per_class=None,
    draw_seed=0,
    force=False,
)

if __name__ == "__main__":
    run(SETTINGS, __doc__)
