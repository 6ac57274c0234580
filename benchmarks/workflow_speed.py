"""How long the digits study takes by `make results` and by snakemake with two cores, and whether both give the same files.

usage: python benchmarks/workflow_speed.py FOLDER [number of seeds, by default 10]

Runs the commands of `make results`, one after another, then `snakemake --cores 2 digits3`, each from nothing in a root folder
of its own below FOLDER, and compares every CSV, score file, checkpoint and figure byte for byte. What was done in FOLDER before
is not done again, so that the two parts can be run apart. Prints times of the wall and of the processors, which other work on
the machine changes less, and both ratios; ends with status 1 where a file differs. The table of the summary, which
`make results` prints last, is printed after snakemake too.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

CHECKOUT = Path(__file__).resolve().parents[1]
SNAKEMAKE = CHECKOUT / ".venv-workflow" / "bin" / "snakemake"
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


def new_root(folder: Path, num_seeds: int) -> Path:
    """A root folder with the committed index files and the first of the committed seeds."""
    shutil.copytree(CHECKOUT / "data" / "subset_indices", folder / "data" / "subset_indices")
    seeds = torch.load(CHECKOUT / "random_seeds.pt", weights_only=True)
    torch.save(seeds[:num_seeds].clone(), folder / "random_seeds.pt")
    return folder


def seconds(root: Path, num_seeds: int, *commands: list[str]) -> dict[str, float]:
    """Run commands one after another in a root folder; what they took together, or took before."""
    kept = root / "seconds.json"
    if not kept.exists():
        shutil.rmtree(root, ignore_errors=True)
        environment = os.environ | {
            "TDA_ROOT": str(new_root(root, num_seeds)),
            "PYTHONPATH": str(CHECKOUT),
            "TQDM_DISABLE": "1",
        }
        start, before = time.perf_counter(), os.times()
        for command in commands:
            done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        after = os.times()
        processors = after.children_user + after.children_system - before.children_user - before.children_system
        kept.write_text(json.dumps({"wall": time.perf_counter() - start, "processors": processors}))
    return json.loads(kept.read_text())


def products(root: Path) -> dict[str, bytes]:
    """Every file that must be the same, by its name."""
    paths = [path for pattern in PRODUCTS for path in root.glob(pattern)]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(paths)}


def main(folder: Path, num_seeds: int) -> int:
    """Print both times, their ratios and what differs; returns the exit status."""
    plain, workflow = folder / "plain", folder / "workflow"
    own = [sys.executable]
    one = seconds(plain, num_seeds, *([*own, str(CHECKOUT / script), *words] for script, *words in STEPS))
    print(f"make results: {one['wall']:.1f} s, processors {one['processors']:.1f} s", flush=True)
    last = [*own, str(CHECKOUT / STEPS[-1][0]), *CHOSEN]
    config = ["--config", f"python={sys.executable}", f"seeds={num_seeds}"]
    other = seconds(workflow, num_seeds, [str(SNAKEMAKE), "--cores", "2", "digits3", *config], last)
    print(f"snakemake --cores 2: {other['wall']:.1f} s, processors {other['processors']:.1f} s")
    print(", ".join(f"{kind}: {other[kind] / one[kind]:.2f} times as long" for kind in one))
    left, right = products(plain), products(workflow)
    different = [name for name in left | right if left.get(name) != right.get(name)]
    print("\n".join([f"{len(left)} files compared, {len(different)} differ", *different]))
    return int(bool(different))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 10))
