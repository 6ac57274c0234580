"""The registry of model families. Adding a family is adding one entry to FAMILIES."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from tda.data.tasks import Task
from tda.models import language_tuning, layer_tuning, pair_tuning, text_tuning, vit
from tda.models.cnn import three_layer_cnn, two_layer_cnn
from tda.models.efficientnet_lite0 import PACKAGE, efficientnet_lite0_base
from tda.models.fine_tuning import (
    PRETRAINED_BASE,
    AdapterTuning,
    FineTuning,
    LanguageTuning,
    LayerTuning,
    PairTuning,
    TextTuning,
)
from tda.models.language_models import Sizes, causal, encoder_decoder
from tda.models.language_models import plan as language_plan
from tda.models.perceptrons import logistic_regression, multilayer_perceptron
from tda.models.resnet import residual_network
from tda.models.resnet18 import TORCHVISION, resnet18_base
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError
from tda.system.inputs import Inputs
from tda.system.random_streams import stream_seed


@dataclass(frozen=True)
class Pixels:
    """Images (n, c, h, w) that a model takes; times std plus mean, numbers a channel each, they lie in [0, 1]."""

    images: Tensor
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True)
class ModelFamily:
    """A way to build and train models.

    build: (task) -> untrained module that maps the task's inputs to logits; draws from torch's global generator. Its parameters
    with requires_grad are what is trained, kept and attributed to.
    training_script: the script that makes members, named in error messages.
    inputs: (task, a split's inputs, device) -> what the module takes for them; what that costs is computed on the device.
    pixels: (task, images (n, c, h, w)) -> images that the module takes too, with what brings them back to [0, 1].
    origin: (task) -> what a member is made from besides its seed, as plain values; written into each checkpoint, and compared.
    fine_tuned: choices of fine-tuning -> the same family with these; None where members are trained from scratch.
    kind_of_choices: which choices of fine-tuning these are.
    alterable: options of a variant, beside those of its plan, that its networks can take (see variants.py).
    choices: those that this family was made with; None leaves them to what a checkpoint says, and to the defaults.
    company: (module, inputs of the training split as the module takes them) -> gives a new module what it compares examples
    with; None where an example is looked at alone.
    """

    name: str
    title: str
    build: Callable[[Task], nn.Module]
    plan: Callable[[Task], TrainingPlan]
    training_script: str
    inputs: Callable[[Task, Inputs, torch.device], Inputs] = lambda task, inputs, device: inputs
    pixels: Callable[[Task, Tensor], Pixels] = lambda task, images: Pixels(images, task.kind.mean, task.kind.std)
    origin: Callable[[Task], dict] = lambda task: {}
    fine_tuned: "Callable[[FineTuning], ModelFamily] | None" = None
    kind_of_choices: type[FineTuning] | None = None
    alterable: tuple[str, ...] = ()
    choices: FineTuning | None = None
    company: Callable[[nn.Module, Inputs], None] | None = None

    def with_choices(self, choices: FineTuning) -> "ModelFamily":
        """The same family with choices of fine-tuning; raises UserError for another kind of choices than its own, or for any
        where members are trained from scratch.
        """
        if self.fine_tuned is None:
            raise UserError(f"model {self.name} is not fine-tuned from a base; train it with {self.training_script}")
        if not isinstance(choices, self.kind_of_choices):
            raise UserError(f"model {self.name} is fine-tuned in another way; train it with {self.training_script}")
        return replace(self.fine_tuned(choices), choices=choices)


def _cnn_plan(task: Task) -> TrainingPlan:
    return TrainingPlan(epochs=task.epochs)


def _sgd_plan(epochs: int, early_epochs: tuple[int, ...], **settings) -> Callable[[Task], TrainingPlan]:
    """SGD with momentum as in the field's public benchmarks; the last epoch is scored."""
    shared = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 64, "num_kept_epochs": 1}
    plan = TrainingPlan(epochs=epochs, early_epochs=early_epochs, **(shared | settings))
    return lambda task: plan


def _vit(fine_tuning: AdapterTuning) -> ModelFamily:
    return ModelFamily(
        "vit",
        "vision transformer with LoRA",
        partial(vit.build, fine_tuning),
        partial(vit.plan, fine_tuning),
        "run_vit_finetuning.py",
        lambda task, images, device: vit.inputs(fine_tuning, task, images),
        lambda task, images: Pixels(*vit.pixels(fine_tuning, task, images)),
        partial(vit.origin, fine_tuning),
        _vit,
        AdapterTuning,
    )


def _layer_tuned(name: str, title: str, load: layer_tuning.BaseLoader, usual_base: str, choices: LayerTuning) -> ModelFamily:
    if choices.base == PRETRAINED_BASE:
        choices = replace(choices, base=usual_base)
    return ModelFamily(
        name,
        title,
        partial(layer_tuning.build, load, choices),
        partial(layer_tuning.plan, choices),
        "run_image_finetuning.py",
        partial(layer_tuning.inputs, name, load, choices),
        origin=partial(layer_tuning.origin, load, choices),
        fine_tuned=partial(_layer_tuned, name, title, load, usual_base),
        kind_of_choices=LayerTuning,
    )


def _text_tuned(name: str, title: str, choices: TextTuning) -> ModelFamily:
    return ModelFamily(
        name,
        title,
        partial(text_tuning.build, choices),
        partial(text_tuning.plan, choices),
        "run_text_finetuning.py",
        partial(text_tuning.inputs, name, choices),
        origin=partial(text_tuning.origin, choices),
        fine_tuned=partial(_text_tuned, name, title),
        kind_of_choices=TextTuning,
    )


def _language_tuned(name: str, title: str, answers: bool, choices: LanguageTuning) -> ModelFamily:
    return ModelFamily(
        name,
        title,
        partial(language_tuning.build, answers, choices),
        partial(language_tuning.plan, choices),
        "run_language_training.py",
        origin=partial(language_tuning.origin, answers, choices),
        fine_tuned=partial(_language_tuned, name, title, answers),
        kind_of_choices=LanguageTuning,
    )


def _pair_tuned(name: str, title: str, choices: PairTuning) -> ModelFamily:
    return ModelFamily(
        name,
        title,
        partial(pair_tuning.build, choices),
        partial(pair_tuning.plan, choices),
        "run_clip_training.py",
        partial(pair_tuning.inputs, name, choices),
        origin=partial(pair_tuning.origin, choices),
        fine_tuned=partial(_pair_tuned, name, title),
        kind_of_choices=PairTuning,
        company=pair_tuning.company,
    )


def _language(name: str, title: str, build: Callable[[Sizes, Task], nn.Module], sizes: Sizes) -> ModelFamily:
    return ModelFamily(name, title, partial(build, sizes), language_plan, "run_language_training.py")


_SMOOTHER = ("pool", "logits")
_ENTRIES = (
    ModelFamily("cnn", "two-layer CNN", two_layer_cnn, _cnn_plan, "run_cnn_training.py", alterable=_SMOOTHER),
    ModelFamily("cnn3", "three-layer CNN", three_layer_cnn, _cnn_plan, "run_cnn_training.py", alterable=_SMOOTHER),
    ModelFamily(
        "lr",
        "logistic regression",
        logistic_regression,
        _sgd_plan(20, (2, 4, 7, 10)),
        "run_mlp_training.py",
        alterable=("logits",),
    ),
    ModelFamily(
        "mlp",
        "multilayer perceptron",
        multilayer_perceptron,
        _sgd_plan(50, (2, 3, 4, 5, 7, 9, 12)),
        "run_mlp_training.py",
        alterable=("gelu", "logits"),
    ),
    ModelFamily(
        "resnet9",
        "nine-layer residual network",
        residual_network,
        _sgd_plan(50, (2, 5, 10, 20, 35), weight_decay=5e-4),
        "run_mlp_training.py",
        alterable=("gelu", "logits"),
    ),
    _vit(AdapterTuning()),
    _layer_tuned("resnet18", "ResNet-18, fine-tuned", resnet18_base, TORCHVISION, LayerTuning()),
    _layer_tuned("efficientnet_lite0", "EfficientNet-Lite0, fine-tuned", efficientnet_lite0_base, PACKAGE, LayerTuning()),
    _text_tuned("bert", "BERT, fine-tuned", TextTuning()),
    _language("gpt", "small GPT-2", causal, Sizes()),
    _language("gpt_mini", "GPT-2 of two narrow layers", causal, Sizes(width=64, layers=2, heads=2, hidden=256)),
    _language("t5", "small T5", encoder_decoder, Sizes()),
    _language("t5_mini", "T5 of two narrow layers", encoder_decoder, Sizes(width=64, layers=2, heads=2, hidden=256)),
    _language_tuned("smollm2", "SmolLM2-135M with LoRA", False, LanguageTuning()),
    _language_tuned("t5_lora", "T5 with LoRA", True, LanguageTuning()),
    _pair_tuned("clip", "CLIP of two towers", PairTuning()),
)
FAMILIES = {family.name: family for family in _ENTRIES}


def family_named(name: str) -> ModelFamily:
    """Look a family up; raises UserError, which lists the known ones."""
    if name not in FAMILIES:
        raise UserError(f"unknown model {name}; known models are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def new_model(family: ModelFamily, task: Task, seed: int) -> nn.Module:
    """The untrained model on the CPU, initialised from the seed's own stream; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation"))
        return family.build(task)
