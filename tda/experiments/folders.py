"""Where everything lies: the only place that knows the layout of data/, models/ and results/."""

import os
from dataclasses import dataclass
from pathlib import Path


def root() -> Path:
    """Folder that holds data/, models/, results/ and random_seeds.pt: the environment's TDA_ROOT, else this checkout."""
    return Path(os.environ.get("TDA_ROOT") or Path(__file__).parents[2]).resolve()


def data_folder() -> Path:
    """Folder of the raw data sets, in torchvision's layout."""
    return root() / "data"


def methods_folder() -> Path:
    """Folder of the user's own methods, a file each."""
    return root() / "methods"


def tasks_folder() -> Path:
    """Folder of the user's own tasks, a file each."""
    return root() / "tasks"


def seeds_file() -> Path:
    """File of the ensemble's seeds, a LongTensor."""
    return root() / "random_seeds.pt"


def embedded_base_folder(task: str) -> Path:
    """Folder of the small base model that is pre-trained for a task."""
    return root() / "models" / "bases" / task


def frozen_outputs_file(model: str, content: str) -> Path:
    """What the frozen layers of a family's base make of some images, by a hash of all that it is made from."""
    return root() / "models" / model / "frozen" / f"{content}.safetensors"


def subset_file(task: str, split: str, num_per_class: int) -> Path:
    """Index file of a drawn subset; `split` is "train" or "test"."""
    return data_folder() / "subset_indices" / task / f"{split}_{num_per_class}pc.txt"


@dataclass(frozen=True)
class Experiment:
    """One model family on one training subset of one task; the key of everything under models/ and results/.

    variant: what sets it apart from the plain experiment of the same three, as variant_names.py writes it, or "".
    """

    model: str
    task: str
    num_per_class: int
    variant: str = ""

    @property
    def name(self) -> str:
        """Folder name, for example cnn_digits3_10pc. It is for people: nothing parses it."""
        plain = f"{self.model}_{self.task}_{self.num_per_class}pc"
        return f"{plain}_{self.variant}" if self.variant else plain

    @property
    def arguments(self) -> str:
        """The arguments of a script that stand for it, for messages."""
        variant = f" --variant {self.variant}" if self.variant else ""
        return f"--model {self.model} --task {self.task} --num_per_class {self.num_per_class}{variant}"

    def seed_folder(self, seed_id: int) -> Path:
        """Folder of one seed's checkpoints."""
        return root() / "models" / self.model / self.name / str(seed_id)

    def checkpoint_file(self, seed_id: int, epoch: int) -> Path:
        """Checkpoint of one seed after `epoch` epochs (counted from 1)."""
        return self.seed_folder(seed_id) / f"ckpt_epoch_{epoch}.safetensors"

    @property
    def results(self) -> "ResultsFolder":
        """Folder of this experiment's results."""
        return ResultsFolder(self.name)


@dataclass(frozen=True)
class ResultsFolder:
    """results/<experiment>, which the analysis scripts know by its name alone."""

    name: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return root() / "results" / self.name

    @property
    def manifest(self) -> Path:
        """Record of every step that wrote into this folder."""
        return self.path / "manifest.json"

    def score_folder(self, method: str) -> Path:
        """Folder with one folder of score files a seed."""
        return self.path / "tda_scores" / method

    def score_file(self, method: str, seed_id: int, epoch: int) -> Path:
        """Score file of one method for one member."""
        return self.score_folder(method) / str(seed_id) / f"attribution_epoch_{epoch}.parquet"

    def projected_folder(self, seed_id: int, epoch: int) -> Path:
        """Projected gradients of one member that are kept on disk."""
        return self.path / "projected_gradients" / str(seed_id) / f"epoch_{epoch}"

    def kernel_folder(self, method: str, seed_id: int, epoch: int) -> Path:
        """Parts of one member's kernel that are kept until it is scored."""
        return self.path / "kernel_parts" / method / str(seed_id) / f"epoch_{epoch}"

    def retraining_file(self, name: str) -> Path:
        """What one model retrained on a part of the training set says of the test set."""
        return self.path / "retrainings" / f"{name}.safetensors"

    def probe_file(self, name: str) -> Path:
        """What one seed's trainings at other weights of the examples say, for metasmoothness."""
        return self.path / "metasmoothness" / f"{name}.safetensors"

    def crossed_score_file(self, method: str, name: str) -> Path:
        """Scores of one method for one run of a crossed design, an initialisation with an order of batches."""
        return self.path / "crossed_scores" / method / f"{name}.safetensors"

    def ensemble_score_file(self, method: str) -> Path:
        """Scores of one method for the ensemble as a whole."""
        return self.path / f"ensemble_scores_{method}.parquet"

    def s_test_file(self, method: str, seed_id: int, epoch: int) -> Path:
        """Kept s_test vectors of one method for one member."""
        return self.path / "s_test" / method / str(seed_id) / f"s_test_epoch_{epoch}.safetensors"

    def new_example_file(self, method: str, seed_id: int, epoch: int) -> Path:
        """Scores of training examples that the members never saw, made from the kept s_test vectors."""
        return self.s_test_file(method, seed_id, epoch).with_name(f"new_examples_epoch_{epoch}.parquet")
