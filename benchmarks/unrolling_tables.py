"""The README's table of what differentiation through a training costs."""

from collections.abc import Callable


def through_training(content: dict, origin: str, table: Callable, number: Callable, spread: Callable) -> str:
    """Forwards in times of leave-one-out, backwards in trainings for a test example."""
    parts = [origin]
    rows = [
        [name, row["contender"], number(row["seconds"]), number(row["processor_seconds"]), spread(row)]
        + [number(row["peak_mib"]), number(row["ratio"], "x"), number(row["with_removal"]), number(row["with_exact"])]
        for name, found in content.get("forwards", {}).items()
        for row in found["rows"]
    ]
    shared = ["seconds", "processor seconds", "min to max (runs)", "peak MiB"]
    if rows:
        header = ["experiment", "contender", *shared, "in LOO", "rank correlation with LOO", "with unrolled"]
        parts.append(f"All five checkpoints\n\n{table(header, rows)}")
    rows = [
        [f"{name}, {found['steps']} steps", row["contender"], number(row["seconds"]), number(row["processor_seconds"])]
        + [spread(row), number(row["peak_mib"]), number(row["trainings"])]
        + [f"{row['largest_difference']:.1e}" if "largest_difference" in row else ""]
        for name, found in content.get("backwards", {}).items()
        for row in found["rows"]
    ]
    if rows:
        header = ["training", "contender", *shared, "trainings", "largest difference from the loop"]
        parts.append(f"The last checkpoint, one thread, for one test example\n\n{table(header, rows)}")
    loads = (f"{part} {before} to {after}" for part, (before, after) in content["load_average"].items())
    return "\n\n".join([*parts, f"Load average of the machine before and after: {'; '.join(loads)}."])
