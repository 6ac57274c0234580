"""How long the digits study takes by `make results` and by snakemake with two cores, and whether both give the same files.

usage: python benchmarks/workflow_speed.py [snakemake program]

Runs the commands of `make results`, one after another, then `snakemake --cores 2 digits3`, each from nothing in a root folder
of its own, and compares every CSV, score file, checkpoint and figure byte for byte. Prints a line for each and the ratio; ends
with status 1 where a file differs. The table of the summary, which `make results` prints last, is printed after snakemake too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CHOSEN = ["--model", "cnn", "--task", "digits3", "--num_per_class", "10"]
STEPS = [
    ["run_subset_generation.py", *CHOSEN[2:]],
    ["run_cnn_training.py", *CHOSEN],
    ["run_tda.py", *CHOSEN, "--methods", "all"],
    ["run_compute_pvalues.py", *CHOSEN],
    ["run_correlation_analysis.py", *CHOSEN],
    ["run_report.py", *CHOSEN],
    ["run_show_summary.py", *CHOSEN],
]
PRODUCTS = ("models/**/*.safetensors", "results/**/*.parquet", "results/*/*.csv", "results/*/*.png", "results/*/*.pdf")


def new_root(folder: Path) -> Path:
    """A root folder with the committed index files and seeds."""
    shutil.copytree(CHECKOUT / "data" / "subset_indices", folder / "data" / "subset_indices")
    shutil.copy(CHECKOUT / "random_seeds.pt", folder)
    return folder


def seconds(root: Path, *commands: list[str]) -> float:
    """Run commands one after another in a root folder, and return how long they took together."""
    environment = os.environ | {"TDA_ROOT": str(root), "PYTHONPATH": str(CHECKOUT), "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def products(root: Path) -> dict[str, bytes]:
    """Every file that must be the same, by its name."""
    paths = [path for pattern in PRODUCTS for path in root.glob(pattern)]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(paths)}


def main(snakemake: str) -> int:
    """Print both times, their ratio and what differs; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        plain, workflow = (new_root(Path(folder) / name) for name in ("plain", "workflow"))
        own = [sys.executable]
        one = seconds(plain, *([*own, str(CHECKOUT / script), *words] for script, *words in STEPS))
        print(f"make results: {one:.1f} s", flush=True)
        last = [*own, str(CHECKOUT / STEPS[-1][0]), *CHOSEN]
        other = seconds(workflow, [snakemake, "--cores", "2", "digits3", "--config", f"python={sys.executable}"], last)
        print(f"snakemake --cores 2: {other:.1f} s, {other / one:.2f} times as long")
        left, right = products(plain), products(workflow)
        different = [name for name in left | right if left.get(name) != right.get(name)]
        print("\n".join([f"{len(left)} files compared, {len(different)} differ", *different]))
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(CHECKOUT / ".venv-workflow" / "bin" / "snakemake")))
