"""Causal language models of one's own with texts of one's own, as members that methods can score; nothing is trained here."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tda.data.pools import Pool
from tda.data.splits import Split
from tda.data.task_entry import Task
from tda.data.text_files import TEXT, TextTable, text_file, text_table
from tda.data.text_tasks import text_kind
from tda.data.tokenizers import TextTokens, tokenizer_named
from tda.experiments.folders import Experiment
from tda.gradients.objectives import NextToken
from tda.models.causal_bases import causal_base
from tda.models.families import ModelFamily
from tda.models.model_state import read_state, trained_parameters
from tda.models.training_plan import TrainingPlan
from tda.system.devices import pick_device
from tda.system.errors import UserError
from tda.system.files import sha256
from tda.training.members import Member
from tda.training.study import Study

OF_A_MODEL_ALONE = (
    *("grad_dot", "grad_cos", "trak", "trak_projected", "if", "if_cg", "ekfac"),
    *("repsim", "repdot", "bm25", "embedding_similarity"),
)
"""Methods that need nothing but a model and its texts: no training that could be followed or repeated."""
_SUFFIXES = (".csv", ".jsonl", ".parquet", ".txt")


def texts_at(place: str, column: str) -> TextTable:
    """The texts of a file or of a folder of .txt files; raises UserError if they are missing, unreadable or not texts."""
    path = Path(place).expanduser().resolve()
    if path.is_file() and path.suffix not in _SUFFIXES:
        raise UserError(f"--texts {place} is no table of texts; give a file {', '.join(_SUFFIXES)} or a folder of .txt files")
    if not path.exists():
        raise UserError(f"--texts {place} is missing; give a file {', '.join(_SUFFIXES)} or a folder of .txt files")
    table = text_file(path) if path.is_file() else text_table(path.parent, path.name, path.parent)
    table.texts(column if path.is_file() and path.suffix != ".txt" else TEXT)
    return table


def own_study(bases: Sequence[str], place: str, column: str, length: int, device: str) -> Study:
    """A study of one's own: its train split the texts, its seeds the numbers of the bases, its test split empty.

    Raises UserError as causal_base, tokenizer_named and texts_at do, if the bases are not of one form, and if the length is
    more than they read.
    """
    table = texts_at(place, column)
    texts = table.texts(column if column in table.columns else TEXT)
    models = [causal_base(base) for base in bases]
    most = getattr(models[0].config, "max_position_embeddings", None) or length
    if not 2 <= length <= most:
        raise UserError(f"--length {length} is out of range: base {bases[0]} reads 2 to {most} tokens")
    _require_alike(bases, models)
    name = f"{Path(bases[0]).name or bases[0]}"
    tokens = TextTokens(functools.partial(tokenizer_named, bases[0]), length)
    examples = np.array(texts, dtype=object)
    pool = Pool(examples, np.zeros(len(texts), dtype=np.int64), list(table.rows))
    content = sha256(*(text.encode() + b"\n" for text in texts))[:8]
    task = Task(
        name=f"texts_{content}",
        title=f"texts of one's own, {Path(place).name}",
        classes=(0,),
        class_names=("text",),
        epochs=1,
        test_per_class=1,
        load=lambda part: pool,
        kind=text_kind(tokens),
        objective=NextToken(),
    )
    inputs = task.kind.inputs(examples)
    rows, largest = len(models[0].get_input_embeddings().weight), int(inputs["input_ids"].max())
    if largest >= rows:
        raise UserError(
            f"the tokenizer of base {bases[0]} gives token {largest}, and the model knows {rows} tokens; a token that was "
            "added to the tokenizer alone does that: resize the model's embeddings and save both"
        )
    train = Split(
        inputs, task.objective.labels(inputs, torch.zeros(len(texts))), torch.arange(len(texts)), np.array(pool.files)
    )
    family = ModelFamily(
        name="own",
        title=f"causal language model {name}",
        build=lambda task: copy.deepcopy(models[0]),
        plan=lambda task: TrainingPlan(epochs=1, num_kept_epochs=1),
        training_script="no script",
        origin=lambda task: {"base": ",".join(bases)},
    )
    experiment = Experiment("own", f"{name}_{task.name}", len(texts))
    return Study(experiment, task, family, tuple(range(len(bases))), train, train[:0], pick_device(device))


def own_members(study: Study, bases: Sequence[str], number: int) -> list[Member]:
    """The base of this number as the only checkpoint of a seed."""
    state = read_state(causal_base(bases[number]))
    content = sha256(*(name.encode() + part.numpy().tobytes() for name, part in sorted(state.parameters.items())))
    member = Member(study, number, 1, state, {"sha256": content})
    _ = member.model
    return [member]


def _require_alike(bases: Sequence[str], models: Sequence[torch.nn.Module]) -> None:
    shapes = [{name: part.shape for name, part in trained_parameters(model).items()} for model in models]
    for base, found in zip(bases, shapes, strict=True):
        if found != shapes[0]:
            raise UserError(f"base {base} is another network than {bases[0]}; several bases are runs of one network")
