"""Compare two results folders number for number: every score file and every CSV, and say where they differ.

    python benchmarks/compare_results.py BEFORE/results/<experiment> AFTER/results/<experiment>

Score files are compared by their values and indices, which must be the same to the bit; what their metadata say of settings,
versions and checksums may differ. CSVs are compared byte for byte. Ends with status 1 where anything differs or is missing.
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq


def main(before: Path, after: Path) -> int:
    """Print a line for each difference and a last one with the counts; returns the exit status."""
    compared, different = {"parquet": 0, "csv": 0}, 0
    for path in sorted([*before.rglob("*.parquet"), *before.rglob("*.csv")]):
        other = after / path.relative_to(before)
        compared[path.suffix.removeprefix(".")] += 1
        if not other.exists():
            reason = "is missing"
        elif path.suffix == ".csv":
            reason = "" if path.read_bytes() == other.read_bytes() else "differs"
        else:
            reason = "" if _same_values(path, other) else "has other values"
        if reason:
            different += 1
            print(f"{other}: {reason}")
    print(f"{compared['parquet']} score files and {compared['csv']} CSVs compared, {different} differ")
    return int(different > 0 or not sum(compared.values()))


def _same_values(left: Path, right: Path) -> bool:
    """Whether two parquet files have the same columns with the same bits."""
    one, other = (pq.read_table(path).replace_schema_metadata(None) for path in (left, right))
    return one.schema.equals(other.schema) and one.equals(other)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not all(Path(argument).is_dir() for argument in sys.argv[1:]):
        sys.exit(__doc__)
    sys.exit(main(*map(Path, sys.argv[1:])))
