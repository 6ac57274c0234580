"""The verdict on an experiment in three sentences that are made from its numbers."""

from collections.abc import Callable, Mapping, Sequence, Set

from tda.methods.catalogue import catalogue, method_title
from tda.report.overview import REFERENCE

Rows = Mapping[str, Mapping[str, float | None]]
"""By method the values of the table of methods."""
_AGREES, _TELLS_NOTHING = 0.5, 0.2


def verdict(
    rows: Rows,
    helpful: Set[str],
    pairs: int,
    seeds: int,
    between_methods: float | None,
    unclear_tests: tuple[int, int],
    removal: str | None = None,
) -> list[str]:
    """Three sentences: what is told from noise, what is right by retraining, and what follows for a reader.

    rows: of the methods; helpful: those of which positive means helpful; between_methods: median rank correlation of two
    methods' mean scores; unclear_tests: for how many test examples, of how many, fewer than half of the pairs are reliable on
    average over the methods; removal: as removal_in_words.
    """
    meant = {method: row for method, row in rows.items() if method in helpful} or rows
    return [_reliability(meant, pairs, seeds), _agreement(rows, removal), _advice(between_methods, unclear_tests)]


def _best(rows: Rows, key: str, choose: Callable = max) -> tuple[str, float] | None:
    """The method with the largest value of a column, and that value; of equals the first."""
    known = {method: row[key] for method, row in rows.items() if row.get(key) is not None}
    return (name := choose(known, key=known.get), known[name]) if known else None


def percent(share: float) -> str:
    """A share in words for a sentence: one digit behind the point, and no 100 % that is not all."""
    if 0.9995 <= share < 1:
        return "more than 99.9 %"
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    return "all" if share == 1 else "none" if share == 0 else f"{100 * share:.1f} %"


def _reliability(rows: Rows, pairs: int, seeds: int) -> str:
    if _best(rows, "share_reliable") is None:
        return f"The scores of every method are the same for all {seeds} seeds, so that seeds tell nothing from noise."
    (best, most), (worst, least) = _best(rows, "share_reliable"), _best(rows, "share_reliable", min)
    start = f"Over {seeds} seeds, {percent(most)} of {pairs:,} pairs can be told from noise by {method_title(best)}"
    if len(rows) == 1:
        return f"{start} (q < 0.05)."
    if most == least:
        return f"{start} (q < 0.05), as by every method that is judged."
    own = rows.get(REFERENCE, {}).get("share_reliable")
    middle = "" if own is None or REFERENCE in (best, worst) else f", {percent(own)} by leave-one-out itself"
    return f"{start} (q < 0.05){middle}, and {percent(least)} by {method_title(worst)}, the least reliable of {len(rows)}."


def removal_in_words(what: str, unit: str, removed: int, rows: Sequence[Mapping]) -> str | None:
    """Which method's examples, left out, cost a target most; None where nothing was left out.

    what: what falls, in `unit`; rows: with the method's name and title, and `fall` as (value, low, high) or None.
    """
    known = [row for row in rows if row["fall"] is not None and row["method"] in catalogue()]
    if not known:
        return None
    best = max(known, key=lambda row: row["fall"][0])
    value, low, high = (f"{number:.3g}" for number in best["fall"])
    return f"leaving out {best['title']}'s {removed} highest costs {what} most, {value}{unit} [{low}, {high}]"


def _agreement(rows: Rows, removal: str | None) -> str:
    by_means, by_lds = _best(rows, "with_loo"), _best(rows, "lds")
    found = []
    if by_means is not None:
        best, value = by_means
        found.append(f"The mean scores of {method_title(best)} agree best with leave-one-out (rank correlation {value:.2f})")
        stable = [name for name, row in rows.items() if _stable_and_different(row)]
        if stable:
            most = max(stable, key=lambda name: rows[name]["share_reliable"])
            found.append(
                f"being reliable is not being right: {method_title(most)} is reliable for "
                f"{percent(rows[most]['share_reliable'])} of the pairs and agrees at {rows[most]['with_loo']:.2f}"
            )
    if by_lds is not None:
        best, value = by_lds
        found.append(f"retraining on random subsets is best foretold by {method_title(best)} (LDS {value:.2f})")
    if removal is not None:
        found.append(removal)
    if not found:
        return "Whether the scores are right is not known here: leave-one-out and retrained models are not there to compare."
    sentence = "; ".join(found)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _stable_and_different(row: Mapping[str, float | None]) -> bool:
    known = row.get("share_reliable") is not None and row.get("with_loo") is not None
    return known and row["share_reliable"] >= 0.9 and abs(row["with_loo"]) < _TELLS_NOTHING


def _advice(between_methods: float | None, unclear_tests: tuple[int, int]) -> str:
    unclear, tests = unclear_tests
    noisy = "no test example has" if unclear == 0 else f"{unclear:,} of {tests:,} test examples have"
    about_tests = f"{noisy} more pairs that may be noise than pairs that are not, averaged over the methods"
    if between_methods is None:
        return f"{about_tests[0].upper()}{about_tests[1:]}: look at q before a pair is believed."
    agree = "agree" if between_methods >= _AGREES else "agree little" if between_methods >= _TELLS_NOTHING else "hardly agree"
    rest = "name a pair only where its q is small and two methods that differ in kind say the same"
    how_far = f"median rank correlation of two {between_methods:.2f}"
    return f"The methods {agree} with each other ({how_far}), and {about_tests}; {rest}."
