"""Step 1: draw the balanced subsets that every later step uses.

Reads the task's data set (downloaded by torchvision when absent) and data/subset_indices/<task>/.
Writes data/subset_indices/<task>/train_<n>pc.txt and test_<n>pc.txt, one index a line; files that exist are checked
and kept. Cost: seconds.
"""

from dataclasses import dataclass

from tda.data.index_files import DRAW_SEED, write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import subset_file
from tda.system.command_line import run_script

SIZES = (10, 20, 50)


@dataclass
class Settings:
    """The constants to edit."""

    task: str = "digits3"
    """Task to draw for, an entry of tda/tasks.py: digits3, mnist3, cifar10, ..."""
    num_per_class: int | None = None
    """Training examples per class to draw; without it the three sizes of the study, 10, 20 and 50."""
    draw_seed: int = DRAW_SEED
    """Seed of the draw; with one seed a larger subset contains a smaller one. Existing files stay unless --force."""
    force: bool = False
    """Draw again even where an index file exists; members trained on the old one are then refused."""


def main(settings: Settings) -> str:
    """Draw what is missing and check what exists."""
    task = task_named(settings.task)
    sizes = SIZES if settings.num_per_class is None else (settings.num_per_class,)
    wanted = [("train", size) for size in sizes] + [("test", task.test_per_class)]
    written = [write_subset(task, split, size, settings.draw_seed, settings.force) for split, size in wanted]
    folder = subset_file(task.name, *wanted[0]).parent
    return f"wrote {sum(written)} index files, checked and kept {len(written) - sum(written)}, in {folder}"


if __name__ == "__main__":
    run_script(Settings, main)
