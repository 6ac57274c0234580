"""Tables of docs/scale.md about rows and queries, for tables.py, which hands over what its own are made with."""

from collections.abc import Callable


def gradient_index(content: dict, origin: str, table: Callable, number: Callable, spread: Callable) -> str:
    """Latency and recall of one query by each index."""
    rows = [
        [row["index"], number(row["milliseconds"]), f"{row['recall']:.3f}", number(row["build"] or None)]
        for row in content["rows"]
    ]
    said = (
        f"{content['images_']:,} training images, {content['dimension']:,} dimensions, {content['queries']} queries, "
        f"{content['candidates']} candidates at either end; the network's pass and projection of the new image take "
        f"{number(content['pass_milliseconds'])} ms more; medians of processor time; peak {number(content['peak_mib'])} MiB."
    )
    return "\n\n".join([origin, said, table(["index", "ms a query", "recall@10, both ends", "seconds to build"], rows)])


def scale_of_rows(content: dict, origin: str, table: Callable, number: Callable, spread: Callable) -> str:
    """The three stages by size, and the comparison with the other packages where it was made."""
    header = ["what", "examples", "dimension", "µs an example to featurize", "finalize, s", "extremes of the targets, s"]
    header += ["largest peak, MiB", "disk, GB"]
    # Beside a GPU the processor waits: there the clock counts.
    on_gpu = "featurize_gpu_peak_mib" in content["rows"][0]
    seconds, rows = "seconds" if on_gpu else "processor_seconds", []
    header += ["largest peak of the GPU, MiB"] if on_gpu else []
    for row in content["rows"]:
        rows.append(
            [
                {"rows": "synthetic rows", "images": "images of CIFAR-10"}[row["kind"]],
                f"{row['count']:,}",
                f"{row['dimension']:,}",
                number(1e6 * row[f"featurize_{seconds}"] / row["count"]),
                *(number(row[f"{stage}_{seconds}"]) for stage in ("finalize", "extremes")),
                number(_peak(row, "peak_mib")),
                number(row["disk_gb"]),
                *([number(_peak(row, "gpu_peak_mib"))] if on_gpu else []),
            ]
        )
    said = f"{content['targets']} targets, a memory budget of {content['budget_gib']:g} GiB, float16; "
    said += "seconds by the clock." if on_gpu else "processor time."
    parts = [origin, said, table(header, rows)]
    if "finalize" in content:
        compared = [[row["contender"], number(row["seconds"]), number(row["peak_mib"])] for row in content["finalize"]]
        parts.append(table(["finalizing the same rows", "seconds", "peak MiB"], compared))
    if "featurize" in content:
        compared = [
            [row["contender"], number(1e3 * row["seconds_an_image"]), f"{row['ratio']:g}"] for row in content["featurize"]
        ]
        parts.append(table(["featurizing images", "ms an image", "times as long"], compared))
    return "\n\n".join(parts)


def _peak(row: dict, kind: str) -> float:
    return max(row[f"{stage}_{kind}"] for stage in ("featurize", "finalize", "extremes"))
