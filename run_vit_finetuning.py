"""Step 2: fine-tune the ensemble of vision transformers by LoRA, one member for each seed of random_seeds.pt.

Reads data/subset_indices/<task>/, the data set and the base model: by hub name, from a folder that save_pretrained wrote, or
the embedded one, a small ViT that is pre-trained once on the data set's other classes and kept in models/bases/<task>/.
Writes models/<model>/<experiment>/<seed>/ckpt_epoch_<k>.safetensors for the last five epochs (adapters, classifier and
optimizer state; the base's name and its weights' hash beside them), and results/<experiment>/manifest.json.
Cost on two CPU cores for digits3 at 10 per class: at most four and a half minutes, of which most is pre-training.
"""

from dataclasses import dataclass

from tda.models.fine_tuning import EMBEDDED_BASE, FineTuning
from tda.steps.training import TrainingSettings, train_experiment
from tda.system.command_line import run_script


@dataclass
class Settings(TrainingSettings):
    """The constants to edit."""

    model: str = "vit"
    task: str = "digits3"
    num_per_class: int = 10
    base: str = EMBEDDED_BASE
    """Base: embedded, a folder that save_pretrained wrote, or a hub name; published: google/vit-base-patch16-224-in21k."""
    rank: int = 16
    """Rank of the adapters on the attention's query and value projections."""
    alpha: int = 16
    """The adapters' output is scaled by this over the rank."""
    dropout: float = 0.1
    """Share of the adapters' inputs that a training step drops; scores are taken without."""
    random_crop: bool = False
    """Train on random crops, drawn anew for each step from the seed; scores always see whole images."""
    mixed_precision: bool = False
    """Fine-tune in bfloat16 where that is safe, for GPUs; scores are taken in float32."""

    @property
    def fine_tuning(self) -> FineTuning:
        """The choices of fine-tuning."""
        return FineTuning(self.base, self.rank, self.alpha, self.dropout, self.random_crop, self.mixed_precision)


if __name__ == "__main__":
    run_script(Settings, train_experiment)
