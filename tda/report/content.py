"""Everything that the page of one experiment holds, as plain values and packed arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tda.data.splits import Split
from tda.methods.catalogue import catalogue, method_title
from tda.report.examples import MethodSays, disagreement, looks_mislabelled, median_correlation, method_says
from tda.report.maps import read_maps
from tda.report.members import MembersSay, Opinions, members_say
from tda.report.overview import (
    COLUMNS,
    REFERENCE,
    STEPS,
    Overview,
    chart_data,
    histogram,
    plain_or_text,
    read_overview,
)
from tda.report.packed import as_text, extreme_positions, lists_of, pair_bytes, transposed
from tda.report.pictures import MOST_SHOWN, Sheet, Shown, shown_examples
from tda.report.provenance import tables_of_other_seeds
from tda.report.removed_pairs import read_removed_pairs
from tda.report.sampling import Counts, Room, chosen_tests, chosen_trains, room_in
from tda.report.statements import read_statements
from tda.report.traced_facts import read_traced_facts
from tda.report.verdict import removal_in_words, verdict
from tda.scores.current_summary import outdated_steps
from tda.scores.fresh_scores import read_checkpoints, score_identities
from tda.scores.score_files import Scores
from tda.scores.sign import SIGN
from tda.statistics.pair_statistics import SIGNIFICANCE_LEVEL, pair_statistics, seed_scores
from tda.system.threads import in_threads
from tda.training.study import Study

PAGE_LIMIT = 15_000_000
"""Bytes of a page at most."""
_FIXED = 1_600_000
"""Bytes that are kept for libraries, code, tables and what is said of each example."""
_LARGE_SHEET = 1_500_000
"""Bytes that are kept for the pictures or texts of a split of which not all are shown."""
_BASE64 = 4 / 3
_OF_TEXTS_AND_PAIRS = {"fact tracing": read_traced_facts, "pair removal": read_removed_pairs}
"""Steps, and what reads their tables."""


@dataclass(frozen=True)
class Content:
    """What the template of a page takes.

    values: plain values for the page's code; blocks: packed arrays as text, by name; sheets: pictures by split; overview: the
    tables; sentences: the verdict; statements: continuations whose attribution was asked for; facts: as read_traced_facts;
    pairs: as read_removed_pairs.
    """

    values: dict
    blocks: dict[str, str]
    sheets: dict[str, Sheet]
    overview: Overview
    sentences: list[str]
    statements: list[dict] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    pairs: dict = field(default_factory=dict)

    @property
    def known_columns(self) -> set[str]:
        """Columns of the table of methods that have a value."""
        return {key for row in self.overview.methods.values() for key, value in row.items() if value is not None}


@dataclass(frozen=True)
class _First:
    """What a first look at a method's scores gives: what decides of which examples the page tells."""

    says: MethodSays
    sign: str
    histogram: list[float]
    listed: np.ndarray
    checkpoints: int
    seed_ids: list[int]


def content_of(study: Study, names: Sequence[str], load: Callable[[str], Scores], summary) -> Content:
    """Read scores twice, first to choose what the page holds, then for that; load: a method's name -> its checked scores."""
    first = sorted(in_threads(partial(_first_look, study), map(load, names)), key=_place_in_table)
    seed_ids, checkpoints = first[0].seed_ids, read_checkpoints(study.experiment)
    say = members_say(study, seed_ids)
    current = score_identities(study.experiment)
    outdated = outdated_steps(study.experiment, {*STEPS, *_OF_TEXTS_AND_PAIRS})
    overview = read_overview(study.results, summary, outdated, current)
    apart = disagreement([one.says for one in first])
    shown = {name: shown_examples(study.task, split, np.arange(len(split))) for name, split in _small_splits(study)}
    counts = Counts(len(names), len(seed_ids), min(one.checkpoints for one in first), len(study.train), len(study.test))
    maps = read_maps(study.results, checkpoints.infos)
    room = room_in(_budget(shown, len(maps.content)), counts)
    share = np.mean([one.says.share_by_test for one in first if one.says.varies] or [np.zeros(len(study.test))], axis=0)
    tests = chosen_tests(room.tests, say.test.wrong, share, apart)
    trains = chosen_trains(room.trains, [one.listed for one in first], len(study.train))
    if "test" not in shown:
        shown["test"] = shown_examples(study.task, study.test, np.sort(tests)[:MOST_SHOWN], _LARGE_SHEET)
    if "train" not in shown:
        often = chosen_trains(MOST_SHOWN, [one.listed for one in first], len(study.train))
        shown["train"] = shown_examples(study.task, study.train, often, _LARGE_SHEET)
    blocks, scales = _blocks(names, load, room, trains, tests)
    blocks |= {"maps": as_text(maps.content)} if maps.entries else {}
    rows = overview.methods
    charts = chart_data(overview, {one.says.method: one.histogram for one in first if one.says.varies})
    unclear = int((share < 0.5).sum())
    pairs = len(study.train) * len(study.test)
    between = median_correlation(charts["correlations"]["mean"].get("spearman"))
    values = {
        "experiment": study.experiment.name,
        "task": study.task.title,
        "class_names": list(study.task.class_names),
        "level": SIGNIFICANCE_LEVEL,
        "seed_ids": seed_ids,
        "trained": len({*checkpoints.seed_ids, *seed_ids}),
        "of_other_seeds": tables_of_other_seeds(study.results, len(seed_ids)),
        "methods": [_method(one) for one in first],
        "columns": [vars(column) for column in COLUMNS],
        "rows": rows,
        "summary": [{key: plain_or_text(value) for key, value in row.items()} for row in summary.to_dict("records")],
        "charts": charts,
        "checkpoints": list(room.checkpoints),
        "complete": room.complete,
        "scales": scales,
        "maps": maps.entries,
        "maps_left_out": maps.left_out,
        "test": _test_values(study.test, shown["test"], tests, say, first, apart),
        "train": _train_values(study.train, shown["train"], trains, say, first),
        "accuracy": say.test.right.mean(axis=1).round(4).tolist(),
        "train_accuracy": say.train.right.mean(axis=1).round(4).tolist(),
    }
    sheets = {name: one.sheet for name, one in shown.items() if one.sheet is not None}
    helpful = {one.says.method for one in first if one.says.helpful}
    facts, left_out = ({} if step in outdated else read(study.results) for step, read in _OF_TEXTS_AND_PAIRS.items())
    sentences = verdict(rows, helpful, pairs, len(seed_ids), between, (unclear, len(study.test)), _removal(facts, left_out))
    statements = read_statements(study.results, checkpoints.infos)
    return Content(values, blocks, sheets, overview, sentences, statements, facts, left_out)


def _removal(facts: dict, pairs: dict) -> str | None:
    """What leaving texts or pairs out did, in words, where that was tried."""
    if facts.get("removed"):
        return removal_in_words("an answer", " nats", facts["removed"], facts["rows"])
    return removal_in_words("a target's cosine", "", pairs["removed"], pairs["rows"]) if pairs.get("removed") else None


def _small_splits(study: Study) -> Iterator[tuple[str, Split]]:
    """The splits of which every example can be shown."""
    for name, split in (("test", study.test), ("train", study.train)):
        if len(split) <= MOST_SHOWN:
            yield name, split


def _budget(shown: dict[str, Shown], maps: int) -> int:
    """Bytes of packed arrays, before base64, that the page has room for."""
    taken = _FIXED + maps * _BASE64 + (2 - len(shown)) * _LARGE_SHEET * _BASE64
    for one in shown.values():
        taken += len(one.sheet.url) if one.sheet else 0
        # Code points of texts may take several bytes, and escapes of JSON six.
        taken += sum(2 * len(text.encode()) for text in one.texts or ())
    return int((PAGE_LIMIT - taken) / _BASE64)


def _first_look(study: Study, scores: Scores) -> _First:
    checkpoints = len(scores.epochs)
    statistics, sample = pair_statistics(scores, checkpoints), seed_scores(scores, checkpoints)
    helpful = scores.metadata["sign"] == SIGN
    labels = study.train.labels.cpu().numpy(), study.test.labels.cpu().numpy()
    says = method_says(sample, statistics, helpful, *labels)
    listed = extreme_positions(statistics.mean.T)
    return _First(says, scores.metadata["sign"], histogram(statistics.p_value), listed, checkpoints, scores.seed_ids)


def _blocks(
    names: Sequence[str], load: Callable[[str], Scores], room: Room, trains: np.ndarray, tests: np.ndarray
) -> tuple[dict[str, str], dict[str, float]]:
    """Lists by method and number of checkpoints, and all pairs of the first tests by method, with the factor of their means."""
    found, scales = {}, {}

    def pack(scores: Scores) -> dict[str, str]:
        packed = {}
        for checkpoints in room.checkpoints:
            statistics, sample = pair_statistics(scores, checkpoints), seed_scores(scores, checkpoints)
            lists = lists_of(sample, statistics, tests), lists_of(sample.transpose(0, 2, 1), transposed(statistics), trains)
            for direction, one in zip(("test", "train"), lists, strict=True):
                packed[f"{direction}-{scores.method}-{checkpoints}"] = as_text(one.bytes_())
        if room.complete:
            content, scales[scores.method] = pair_bytes(statistics, trains, tests[: room.complete])
            packed[f"pairs-{scores.method}"] = as_text(content)
        return packed

    for packed in in_threads(pack, map(load, names)):
        found |= packed
    return found, dict(sorted(scales.items()))


def _place_in_table(one: _First) -> tuple:
    """Leave-one-out first, then methods of which positive means helpful, then the others, by title."""
    return one.says.method != REFERENCE, not one.says.helpful, method_title(one.says.method).lower()


def _method(one: _First) -> dict:
    name = one.says.method
    entries = catalogue()
    return {
        "name": name,
        "title": method_title(name),
        "helpful": one.says.helpful,
        "varies": one.says.varies,
        "sign": one.sign,
        "citation": entries[name].description.citation if name in entries else "",
    }


def _rounded(values: np.ndarray, digits: int = 4) -> list:
    """Numbers with so many significant digits, which is all that is shown of them."""
    return [float(f"{value:.{digits}g}") for value in values.ravel().tolist()]


def _split_values(split: Split, shown: Shown, listed: np.ndarray, opinions: Opinions) -> dict:
    labels = split.labels.cpu().numpy()
    return {
        "index": split.indices.tolist(),
        "label": labels.tolist() if labels.ndim == 1 else None,
        "file": None if split.files is None else split.files.tolist(),
        "group": None if split.groups is None else split.groups.tolist(),
        "true_label": None if split.true_labels is None else split.true_labels.tolist(),
        "listed": listed.tolist(),
        "shown": None if len(shown.positions) == len(split) else shown.positions.tolist(),
        "sheet": None if shown.sheet is None else {key: value for key, value in vars(shown.sheet).items() if key != "url"},
        "texts": shown.texts,
        "wrong": opinions.wrong[listed].astype(int).tolist(),
        "losses": _rounded(opinions.losses[:, listed], 3),
        "predicted": None if opinions.predicted is None else opinions.predicted[:, listed].ravel().tolist(),
        "right": _rounded(opinions.right[:, listed], 3),
    }


def _test_values(
    split: Split, shown: Shown, listed: np.ndarray, say: MembersSay, first: Sequence[_First], apart: np.ndarray
) -> dict:
    shares = {one.says.method: _rounded(one.says.share_by_test[listed]) for one in first}
    return _split_values(split, shown, listed, say.test) | {"share": shares, "disagreement": _rounded(apart[listed])}


def _train_values(split: Split, shown: Shown, listed: np.ndarray, say: MembersSay, first: Sequence[_First]) -> dict:
    suspicious, harms = looks_mislabelled(say.train, [one.says for one in first])
    own = {}
    for one in first:
        says = one.says
        own[says.method] = {"helped": says.helped[listed].tolist(), "harmed": says.harmed[listed].tolist()}
        if says.own_class is not None:
            own[says.method] |= {"own": _rounded(says.own_class[listed]), "own_p": _rounded(says.own_class_p[listed])}
    self_influence = None
    if say.self_influence is not None:
        mean = say.self_influence.mean(axis=0)
        rank = 1 + np.argsort(np.argsort(-mean, kind="stable"), kind="stable")
        deviation = say.self_influence.std(axis=0, ddof=1)
        self_influence = {"mean": _rounded(mean[listed]), "std": _rounded(deviation[listed]), "rank": rank[listed].tolist()}
    return _split_values(split, shown, listed, say.train) | {
        "methods": own,
        "self_influence": self_influence,
        "suspicious": suspicious[listed].astype(int).tolist(),
        "harms_own_class": harms[listed].tolist(),
    }
