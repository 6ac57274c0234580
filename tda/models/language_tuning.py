"""Language models that are fine-tuned from a pre-trained one by low-rank adapters (Hu et al., ICLR 2022)."""

import copy
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from tda.data.task_entry import Task
from tda.models.fine_tuning import LanguageTuning
from tda.models.language_bases import LanguageBase, language_base
from tda.models.language_models import plan as language_plan
from tda.models.shared_weights import SharesFrozenWeights
from tda.models.training_plan import TrainingPlan
from tda.system.errors import UserError

_PROJECTIONS = (("q_proj", "v_proj"), ("query", "value"), ("q", "v"))
"""Names of the query and value projections, the last of T5."""


class AdaptedLanguageModel(SharesFrozenWeights):
    """A language model with adapters, from tokens to the logits of each next one; copies share the frozen weights."""

    ignores_padding = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits (b, T, V) of ids (b, T) with a mask (b, T) of the tokens that count; where there is a decoder, of its ids."""
        answer = {"decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask}
        given = {name: part for name, part in answer.items() if part is not None}
        return self.network(input_ids=input_ids, attention_mask=attention_mask, **given).logits

    def initialise(self) -> None:
        """Draw new adapters, which change nothing at first, from torch's global generator."""
        for module in self.network.modules():
            if hasattr(module, "reset_lora_parameters"):
                module.reset_lora_parameters("default", init_lora_weights=True)


def build(answers: bool, choices: LanguageTuning, task: Task) -> AdaptedLanguageModel:
    """The base with new adapters; the frozen weights are shared with every other model of it.

    answers: whether it reads a text and writes an answer, as T5 does.
    """
    model = copy.deepcopy(_template(language_base(choices.base, task, answers), choices.rank, choices.alpha))
    model.initialise()
    return model


def plan(choices: LanguageTuning, task: Task) -> TrainingPlan:
    """That of models trained from scratch, but for a tenth of warm-up; the last epoch is scored."""
    return replace(language_plan(task), warm_up=0.1, num_kept_epochs=1)


def origin(answers: bool, choices: LanguageTuning, task: Task) -> dict:
    """The choices of fine-tuning and the hash of the base's weights."""
    return choices.as_dict() | {"base_sha256": language_base(choices.base, task, answers).sha256}


@lru_cache(maxsize=2)
def _template(base: LanguageBase, rank: int, alpha: int) -> AdaptedLanguageModel:
    # Adapters are drawn as they are made; what the seed fixes must not depend on whether the template was there already.
    with torch.random.fork_rng(devices=[]):
        return adapted(base.network, rank, alpha, base.name)


def adapted(network: nn.Module, rank: int, alpha: int, name: str) -> AdaptedLanguageModel:
    """A copy of a language model, frozen, with adapters on the query and value projections of all its layers.

    Raises UserError for a model without projections of known names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    network = copy.deepcopy(network).requires_grad_(False)
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    for pair in _PROJECTIONS:
        if targets := [key for key in linear if key.rpartition(".")[2] in pair]:
            settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
            return AdaptedLanguageModel(inject_adapter_in_model(settings, network)).eval()
    known = " or ".join("/".join(pair) for pair in _PROJECTIONS)
    raise UserError(f"base {name} has no attention projections named {known}; choose another base")
