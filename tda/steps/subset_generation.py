"""Step 1: draw the index files of the subsets that are missing, and check those that are there."""

from tda.data.index_files import write_subset
from tda.data.tasks import task_named
from tda.experiments.folders import subset_file
from tda.settings import SubsetGeneration
from tda.system.errors import UserError

STUDY_SIZES = (10, 20, 50)


def main(settings: SubsetGeneration) -> str:
    """Draw what is missing; returns the closing line. Raises UserError for unusable settings, data or index files."""
    if settings.draw_seed < 0:
        raise UserError(f"--draw_seed {settings.draw_seed} is no seed; choose 0 or more")
    task = task_named(settings.task)
    sizes = STUDY_SIZES if settings.num_per_class is None else (settings.num_per_class,)
    wanted = [("train", size) for size in sizes] + [("test", task.test_per_class)]
    written = [write_subset(task, part, size, settings.draw_seed, settings.force) for part, size in wanted]
    folder = subset_file(task.name, *wanted[0]).parent
    return f"wrote {sum(written)} index files, checked and kept {len(written) - sum(written)}, in {folder}"
