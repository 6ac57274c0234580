"""Step 9, language: which training texts make a model continue a prompt so, and which oppose it?"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tda.experiments.manifest import chosen_experiment
from tda.facts.continuations import (
    Continued,
    asking_split,
    check_causal,
    given_continuation,
    greedy,
    log_probability,
    prompt_tokens,
    token_texts,
)
from tda.facts.own_checkpoints import OF_A_MODEL_ALONE, own_members, own_study
from tda.facts.statements import method_values, rows_of, statement_table, statement_text
from tda.facts.text_attribution import attributed, scores_of_seed
from tda.methods.registry import Method, load_method
from tda.scores.fresh_scores import read_checkpoints
from tda.scores.tables import write_table
from tda.settings import TextAttribution
from tda.settings.of_experiment import check_counts
from tda.system.devices import prepare_process
from tda.system.errors import UserError
from tda.system.files import reading, sha256, write_text
from tda.system.resumable_parts import ResumableParts
from tda.training.members import Member, load_members
from tda.training.study import Study, open_study


@dataclass(frozen=True)
class Models:
    """What is asked: a study, its seeds, and how a seed's checkpoints are loaded."""

    study: Study
    seed_ids: Sequence[int]
    load: Callable[[int], list[Member]]


def main(settings: TextAttribution) -> str:
    """Write the statement as CSV and JSON, and return it as a table to be read, its closing line last.

    Raises UserError for unusable settings, a model that continues nothing, and missing or foreign members.
    """
    prepare_process()
    check_counts(settings, "most_tokens", "num_texts", "num_checkpoints")
    models = _models(settings)
    kind = check_causal(models.study.task)
    methods = _methods(settings, models)
    prompt = prompt_tokens(kind, settings.prompt)
    if settings.continuation is not None:
        given_continuation(kind, settings.prompt, settings.continuation)
    with models.study.step("text attribution", vars(settings), seed_ids=None, share=_share(settings)) as record:
        said, states = [], []
        for seed_id in models.seed_ids:
            members = models.load(seed_id)
            states.append([member.info["sha256"] for member in members])
            said.append(greedy(members[-1].model, kind, prompt, settings.most_tokens, models.study.device))
        words = ["".join(token_texts(kind, each)) for each in said]
        continued = _continued(settings, kind, said)
        identity = _identity(models, continued, words, states, settings, methods)
        path = models.study.results.path / "text_attributions" / f"{identity[:12]}.json"
        statement = None if settings.force else _finished(path, identity)
        if statement is None:
            statement = _attributed(models, settings, methods, continued, identity, path.parent)
            statement |= {"said": words, "seeds": len(models.seed_ids), "experiment": models.study.experiment.name}
            statement |= {"prompt": settings.prompt, "checkpoints": states, "identity": identity}
            write_table(path.with_suffix(".csv"), statement_table(statement))
            write_text(path, json.dumps(statement, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
        record.files = [path.with_suffix(".csv")]
    return f"{statement_text(statement)}\n\nwrote {path.with_suffix('.csv').name} and {path.name}, in {path.parent}"


def _share(settings: TextAttribution) -> str:
    return sha256(repr((settings.prompt, settings.continuation, settings.seed_id)).encode())[:8]


def _models(settings: TextAttribution) -> Models:
    if settings.base:
        if settings.texts is None:
            raise UserError("--base needs --texts, the training texts to attribute to: a file or a folder")
        study = own_study(settings.base, settings.texts, settings.column, settings.length, settings.device)
        seed_ids = study.seed_ids(settings.seed_id, settings.num_seeds)
        return Models(study, seed_ids, lambda number: own_members(study, settings.base, number))
    if settings.texts is not None:
        raise UserError("--texts are of models of one's own; name these by --base, or leave --texts out")
    study = open_study(chosen_experiment(settings), settings.device)
    seed_ids = study.trained_seed_ids(read_checkpoints(study.experiment), settings.num_seeds, settings.seed_id)
    epochs = study.last_epochs(min(settings.num_checkpoints, len(study.plan.kept_epochs)))
    return Models(study, seed_ids, lambda seed_id: load_members(study, seed_id, epochs))


def _methods(settings: TextAttribution, models: Models) -> dict[str, tuple[Method, dict]]:
    """The methods with their default settings; raises UserError for one that cannot score these models."""
    if not settings.methods:
        raise UserError("--methods names none; choose some, such as grad_dot,trak")
    found = {}
    for name in settings.methods:
        method = load_method(name)
        if settings.base and name not in OF_A_MODEL_ALONE:
            raise UserError(
                f"method {name} follows a training, which is not known of --base; choose {', '.join(OF_A_MODEL_ALONE)}"
            )
        method.check(models.study, models.seed_ids, method.settings)
        found[name] = (method, method.settings)
    return found


def _continued(settings: TextAttribution, kind, said: Sequence[Continued]) -> Continued:
    """The continuation to explain: the given one, or what most of the seeds say."""
    if settings.continuation is not None:
        return given_continuation(kind, settings.prompt, settings.continuation)
    (most, _), *_ = Counter(each.tokens for each in said).most_common()
    chosen = next(each for each in said if each.tokens == most)
    if not chosen.count:
        raise UserError("the models end the text at the prompt; give a --continuation, or the beginning of another text")
    return chosen


def _identity(
    models: Models,
    continued: Continued,
    said: Sequence[str],
    states: list,
    settings: TextAttribution,
    methods: dict[str, tuple[Method, dict]],
) -> str:
    train = models.study.train
    files = None if train.files is None else list(map(str, train.files))
    made_from = (train.fingerprint, files, continued, list(said), states, settings.num_texts)
    return sha256(repr((made_from, [(name, own) for name, (_, own) in methods.items()])).encode())


def _finished(path: Path, identity: str) -> dict | None:
    """The statement that is there, if it is whole and of these models."""
    if not path.exists() or not path.with_suffix(".csv").exists():
        return None
    try:
        with reading(path):
            found = json.loads(path.read_text(encoding="utf-8"))
        return found if found["identity"] == identity else None
    except (ValueError, KeyError, TypeError):
        return None


def _attributed(
    models: Models,
    settings: TextAttribution,
    methods: dict[str, tuple[Method, dict]],
    continued: Continued,
    identity: str,
    folder: Path,
) -> dict:
    """The continuation's tokens with their chances, and what every method says; seeds that an interrupted run did are kept."""
    study = models.study
    kind = study.task.kind
    asking = asking_split(kind, continued)
    parts = ResumableParts(folder / f"{identity[:12]}_parts", identity)
    numbers = [torch.tensor([seed_id]) for seed_id in models.seed_ids]

    def compute(seed_id: int) -> dict:
        members = models.load(seed_id)
        scores = scores_of_seed(members, asking, list(methods.values()))
        chances = log_probability(members[-1].model, members[-1].study.inputs(asking))
        return scores | {"log_probabilities": chances}

    of_seeds = [parts.result(number, lambda number=number: compute(int(number))) for number in numbers]
    chances = torch.stack([each["log_probabilities"] for each in of_seeds]).mean(dim=0)
    found = [attributed(name, [each[name] for each in of_seeds]) for name in methods]
    statement = {
        "tokens": token_texts(kind, continued),
        "continuation": "".join(token_texts(kind, continued)),
        "log_probabilities": chances.tolist(),
        "methods": [method_values(each, rows_of(each, study.task, study.train, settings.num_texts)) for each in found],
    }
    parts.remove(numbers)
    return statement
