"""Fine-tuning through the script from an embedded base that was pre-trained on half of every class."""

from pathlib import Path

import numpy as np
from conftest import assert_refused, run_script

from tda.data.index_files import drawing_order, subset_file, write_subset
from tda.data.tasks import task_named

ALL_DIGITS = """
from dataclasses import replace

from tda.data.tasks import task_named

TASK = replace(task_named("digits3"), name="all_digits", classes=tuple(range(10)), class_names=tuple("0123456789"))
"""


def test_subset_with_images_of_the_base_is_refused_before_the_base_is_made(root: Path):
    (root / "tasks").mkdir()
    (root / "tasks" / "all_digits.py").write_text(ALL_DIGITS)
    task = task_named("all_digits")
    pool = task.load("train")
    taken_last = [drawing_order(pool, label)[-1] for label in task.classes]
    path = subset_file(task.name, "train", 1)
    path.parent.mkdir(parents=True)
    np.savetxt(path, np.sort(taken_last), fmt="%d")
    write_subset(task, "test", task.test_per_class, draw_seed=0, force=False)
    done = run_script("run_vit_finetuning.py", "--task", "all_digits", "--num_per_class", 1, root=root)
    assert_refused(done, "task all_digits keeps all classes", "10 of these 10 training examples", "--base")
    assert not (root / "models").exists()
