"""What the workflow's configuration asks for: each experiment's commands, and where its files will lie.

Snakemake reads the Snakefile again for every job on a cluster. Nothing here waits for torch, therefore: what only the code of
models and tasks knows, the last epoch and the script that trains, is asked of it once (training_facts.py) and kept.
"""

import itertools
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tda.experiments.folders import Experiment, root, tasks_folder
from tda.experiments.variant_names import variant_name
from tda.methods.catalogue import ALL, chosen_entries
from tda.system.errors import UserError
from tda.system.files import sha256, write_text

CHECKOUT = Path(__file__).parents[1]
ANALYSES = ("p_values", "correlations", "agreement", "report")
_NAMES = {"model": str, "task": str, "num_per_class": int}
_KINDS = {
    "jobs": str,
    "seeds": int,
    "methods": str | list,
    "method_settings": dict,
    "training": list,
    "analyses": list,
    "gpus": int,
}


@dataclass(frozen=True)
class WorkflowStudy:
    """One experiment of the workflow, with all that its commands and files follow from.

    last_epoch: after which the last checkpoint is written; shares_work: whether the first seed makes what the others read too,
    a base model or the outputs of its frozen layers.
    """

    experiment: Experiment
    jobs: str
    seeds: int
    methods: tuple[str, ...]
    method_settings: dict
    training: tuple[str, ...]
    analyses: tuple[str, ...]
    gpus: int
    last_epoch: int
    training_script: str
    shares_work: bool

    def checkpoint(self, seed_id: int | str) -> str:
        """The last checkpoint of a seed, written when the others are there; relative to the root folder, as all files here."""
        return _relative(self.experiment.checkpoint_file(int(seed_id), self.last_epoch))

    def score_file(self, method: str, seed_id: int | str) -> str:
        """A method's last score file of a seed, written when the others are there."""
        return _relative(self.experiment.results.score_file(method, int(seed_id), self.last_epoch))

    def score_files(self) -> list[str]:
        """The last score file of every method and seed."""
        return [self.score_file(method, seed_id) for method in self.methods for seed_id in range(self.seeds)]

    def results(self, *names: str) -> list[str]:
        """Files in the folder of its results."""
        return [_relative(self.experiment.results.path / name) for name in names]

    def products(self) -> list[str]:
        """What its analyses end with."""
        last = {
            "p_values": "summary.csv",
            "correlations": "correlation_spearman_pvalue.csv",
            "agreement": "agreement_with_loo.csv",
            "report": "report.html",
        }
        return self.results(*(last[name] for name in self.analyses))

    def everything(self) -> list[str]:
        """All that must be there when the study is done: a file that is lost is missed although nothing waits for it."""
        return [*map(self.checkpoint, range(self.seeds)), *self.score_files(), *self.products()]

    def settings_of(self, *methods: str) -> str:
        """The arguments that give methods the settings of the configuration."""
        chosen = {f"--{name}.{key}": value for name in methods for key, value in self.method_settings.get(name, {}).items()}
        return shlex.join(word for key, value in chosen.items() for word in (key, _as_argument(value)))


def interpreter(config: dict) -> str:
    """The Python that runs the scripts: the configuration's, else the one that `make` installs, else the one that runs this."""
    installed = CHECKOUT / ".venv" / "bin" / "python"
    return str(config.get("python") or (installed if installed.exists() else sys.executable))


def studies(config: dict) -> dict[str, list[WorkflowStudy]]:
    """The studies of each target of a configuration; raises UserError, which names the entry, for what cannot be meant."""
    # What the command line gives stands beside the file's `defaults`.
    given = {key: value for key, value in config.items() if key in _KINDS}
    defaults, targets = (_mapping(key, config.get(key) or {}) for key in ("defaults", "targets"))
    entries = {target: _entries(target, listed, defaults | given) for target, listed in targets.items()}
    if not entries:
        raise UserError("the workflow's configuration names no targets; see workflow/config.yaml")
    answers = iter(_training_facts([entry for listed in entries.values() for entry in listed], interpreter(config)))
    found = {target: [_study(entry, next(answers)) for entry in listed] for target, listed in entries.items()}
    by_name: dict[str, WorkflowStudy] = {}
    for study in itertools.chain.from_iterable(found.values()):
        if by_name.setdefault(study.experiment.name, study) != study:
            raise UserError(f"two targets ask for {study.experiment.name} with different settings; give both the same")
    return found


def _mapping(what: str, value: object) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{what} cannot be {value!r}, but must give values by name; see workflow/config.yaml")
    return value


def _entries(target: str, listed: object, defaults: dict) -> list[dict]:
    """Each combination of a target's entries as plain values, with the defaults."""
    found = []
    for entry in listed if isinstance(listed, list) else [None]:
        if not isinstance(entry, dict) or not _NAMES.keys() <= entry.keys():
            raise UserError(f"target {target} must be a list of entries with model, task and num_per_class, each")
        several = [entry[name] if isinstance(entry[name], list) else [entry[name]] for name in _NAMES]
        if not all(several):
            raise UserError(f"an entry of target {target} has an empty list for model, task or num_per_class; name one each")
        for names in itertools.product(*several):
            found.append({"variant": ""} | defaults | entry | dict(zip(_NAMES, names, strict=True)))
            _check(target, found[-1])
    return found


def _check(target: str, entry: dict) -> None:
    kinds = _NAMES | {"variant": str} | _KINDS
    if unknown := sorted(entry.keys() - kinds.keys()):
        raise UserError(f"an entry of target {target} has the unknown key {unknown[0]}; known are {', '.join(kinds)}")
    for key, kind in kinds.items():
        if key not in entry:
            raise UserError(f"{key} of target {target} is missing; give it there or under defaults")
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            raise UserError(f"{key} of target {target} cannot be {entry[key]!r}; see workflow/config.yaml")
    if entry["jobs"] not in ("seed", "method"):
        raise UserError(f"jobs of target {target} cannot be {entry['jobs']}; choose seed or method")
    if unknown := [name for name in entry["analyses"] if name not in ANALYSES]:
        raise UserError(f"analyses of target {target} cannot have {unknown[0]}; known are {', '.join(ANALYSES)}")
    if "report" in entry["analyses"] and "p_values" not in entry["analyses"]:
        raise UserError(f"the report of target {target} needs p_values among its analyses")
    if entry["analyses"] and entry["seeds"] < 3:
        raise UserError(f"seeds of target {target} cannot be {entry['seeds']}; a p-value needs at least 3")
    if entry["seeds"] < 1 or entry["gpus"] < 0:
        raise UserError(f"target {target} needs at least one seed, and no negative number of GPUs")


def _study(entry: dict, fact: dict) -> WorkflowStudy:
    names = [entry["methods"]] if isinstance(entry["methods"], str) else entry["methods"]
    chosen = chosen_entries(names)
    methods = tuple(name for name, found in chosen.items() if ALL not in names or not found.description.needs)
    for name, settings in entry["method_settings"].items():
        if name not in methods:
            raise UserError(f"method_settings name {name}, which is not among the methods {', '.join(methods)}")
        if unknown := sorted(_mapping(f"method_settings of {name}", settings).keys() - chosen[name].settings.keys()):
            raise UserError(f"method {name} has no setting {unknown[0]}; it has {', '.join(chosen[name].settings) or 'none'}")
    if len(methods) < 2 and {"correlations", "agreement"} & set(entry["analyses"]):
        raise UserError("correlations and agreement need two methods or more; leave these analyses out")
    if "agreement" in entry["analyses"] and "loo" not in methods:
        raise UserError("the analysis agreement needs loo among the methods")
    return WorkflowStudy(
        experiment=_experiment(entry),
        methods=methods,
        training=tuple(map(str, entry["training"])),
        analyses=tuple(entry["analyses"]),
        **{key: entry[key] for key in ("jobs", "seeds", "method_settings", "gpus")},
        **fact,
    )


def _experiment(entry: dict) -> Experiment:
    return Experiment(entry["model"], entry["task"], entry["num_per_class"], variant_name(entry["variant"]))


def _training_facts(entries: list[dict], python: str) -> list[dict]:
    """The fields of a study that its model and task decide, of each entry; asked only if the code or the entries changed."""
    asked = [vars(_experiment(entry)) | {"training": list(map(str, entry["training"]))} for entry in entries]
    folders = [CHECKOUT / "tda" / "models", CHECKOUT / "tda" / "data", CHECKOUT / "tda" / "settings", tasks_folder()]
    sources = [path for folder in folders for path in sorted(folder.glob("*.py"))] + sorted(CHECKOUT.glob("run_*.py"))
    key = sha256(json.dumps(asked).encode(), *(path.read_bytes() for path in sources))
    kept = root() / ".snakemake" / "training_facts" / f"{key[:24]}.json"
    if not kept.exists():
        command = [python, str(Path(__file__).with_name("training_facts.py"))]
        environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, env=environment)
        if done.returncode:
            raise UserError((done.stderr.strip().splitlines() or ["the models' code could not be asked"])[-1])
        write_text(kept, done.stdout)
    return json.loads(kept.read_text(encoding="utf-8"))


def _relative(path: Path) -> str:
    return str(path.relative_to(root()))


def _as_argument(value: object) -> str:
    return "none" if value is None else str(value)
