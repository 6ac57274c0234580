"""Where an experiment's numbers come from: what each step ran with, and the files that it left."""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from tda.experiments.folders import ResultsFolder
from tda.experiments.manifest import read_manifest, records_of

PAGE = "report.html"
"""The name of the page itself."""
_MEANINGS = (
    (PAGE, "the page that a person opens"),
    ("comparison_with_*.html", "pages of two experiments beside each other"),
    ("summary.csv", "the table of methods, for each number of checkpoints"),
    ("mean_*.csv", "mean p-values, a row for each number of checkpoints"),
    ("qvalues_*.csv", "q of every pair, by method and number of checkpoints"),
    ("pvalues_single_draw_*.csv", "whether one seed's score can be told from 0"),
    ("pvalues_*.csv", "p of every pair, by method and number of checkpoints"),
    ("correlation_*", "correlations between methods"),
    ("agreement_*", "agreement with leave-one-out over runs"),
    ("lds*", "what retraining says of the scores"),
    ("fact_*", "which texts state facts, and what leaving them out does"),
    ("asked_facts.csv", "the facts that were asked for"),
    ("pair_removal.*", "what leaving helpful pairs of image and text out does"),
    ("helpful_pairs.*", "the training pairs that each method names for target pairs"),
    ("retrieval.csv", "how well each member finds texts by images, and images by texts"),
    ("removal_candidates.csv", "training examples with every method's verdict, for a person who looks at labels"),
    ("data_debiasing*", "what removing or relabelling selected examples does"),
    ("removal*", "what removing examples does"),
    ("attributions_test_*", "figures of single test examples"),
    ("pvalue_histograms.*", "figure of the p-values"),
    ("*", "others"),
)
_TABLES_OF_SEEDS = {
    "correlations": "correlations between methods",
    "agreement": "agreement with leave-one-out",
    "LDS": "LDS",
    "fact tracing": "facts",
    "pair removal": "removed pairs",
}
"""Steps that read scores, and what of theirs the overview shows."""
_MOST_LINKS = 6
"""Files of a pattern that are linked one by one."""


def steps_of(folder: ResultsFolder) -> list[dict]:
    """The manifest's steps in the order in which they ended, as a page shows them."""
    steps = read_manifest(folder)["steps"]
    ordered = sorted(steps.items(), key=lambda item: (item[1].get("ended", ""), item[0]))
    # The page's own step ends after the page was written.
    return [_step(name, entry) for name, entry in ordered if name.partition(", ")[0] != "report"]


def _step(name: str, entry: dict) -> dict:
    commit = entry.get("git_commit") or ""
    return {
        "name": name,
        "ended": entry.get("ended", ""),
        "seconds": entry["wall_seconds"],
        "memory": entry.get("peak_memory_mib"),
        "device": entry.get("device", ""),
        "commit": commit[:12],
        "seeds": len(entry["seeds"]),
        "arguments": json.dumps(entry["arguments"], sort_keys=True),
        "made_from": sorted(entry.get("made_from", {}).items()),
        "files": sorted(entry.get("files", {}).items()),
    }


def tables_of_other_seeds(folder: ResultsFolder, seeds: int) -> dict[str, int]:
    """By table of the overview, the number of seeds that it is of, where it is there and of another number than `seeds`."""
    found = {}
    for kind, title in _TABLES_OF_SEEDS.items():
        counts = {len(entry["seeds"]) for entry in records_of(folder, kind)} - {0, seeds}
        found |= {title: max(counts)} if counts else {}
    return found


def common_to_steps(folder: ResultsFolder) -> dict[str, list[tuple[str, str]]]:
    """Versions, input hashes, commits and seeds of all steps; where they differ, every one that occurs."""
    steps = read_manifest(folder)["steps"].values()
    return {
        "versions": _values(entry["versions"].items() for entry in steps),
        "hashes of the data": _values(entry.get("input_sha256", {}).items() for entry in steps),
        "commits": _values([("git", entry["git_commit"])] for entry in steps if entry.get("git_commit")),
        "seeds": [(str(number), str(seed)) for number, seed in enumerate(_longest(entry["seeds"] for entry in steps))],
    }


def _values(parts: Iterable[Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {(str(key), str(value)): None for items in parts for key, value in items}
    return sorted(found)


def _longest(lists: Iterable[list]) -> list:
    return max(lists, key=len, default=[])


def files_of(folder: ResultsFolder) -> list[dict]:
    """The folder's files by pattern: its meaning, how many there are, and links to them, relative to the page."""
    left = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    groups = []
    for pattern, meaning in _MEANINGS:
        matching = [path for path in left if path.match(pattern)]
        left = [path for path in left if path not in matching]
        if matching:
            links = [(path.name, quote(path.name)) for path in matching[:_MOST_LINKS]]
            groups.append({"pattern": pattern, "meaning": meaning, "count": len(matching), "links": links})
    for path in sorted(folder.path.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            count = sum(1 for file in path.rglob("*") if file.is_file())
            links = [(f"{path.name}/", f"{quote(path.name)}/")]
            groups.append({"pattern": f"{path.name}/", "meaning": _folder(path), "count": count, "links": links})
    return groups


def _folder(path: Path) -> str:
    meanings = {
        "tda_scores": "scores, a parquet file for each method, seed and epoch",
        "text_attributions": "continuations with the training texts that help and oppose them",
        "retrainings": "what models retrained on parts of the training set say",
        "debiasing": "what each selection of examples was, and retrained models without them",
        "feature_attribution": "maps of which pixels carry influence",
    }
    return meanings.get(path.name, "files of a step")
