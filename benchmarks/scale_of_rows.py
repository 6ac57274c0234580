"""What TRAK costs where the training set does not fit in memory: seconds, memory and disk by rows and by dimension.

Synthetic rows: a linear model without projection, whose gradient is its input, drawn anew batch by batch, so that a TRAKer does
all but a network's passes; featurizing, finalizing and the extremes of the targets each in a process of its own. Images of
CIFAR-10, over and over, go through a network of three convolutions. Rows are kept in float16, without features, within a memory
budget. Against traker (its CPU projector) and dattri on the same network and the same rows, but fewer: their seconds are told
for each example, their memory for the same count. Needs benchmarks/requirements.txt for those two.
Writes benchmarks/results/scale_of_rows.json. Disk: rows x dimension x 2 bytes in --folder, deleted afterwards.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import common
import torch
from common import Outcome, contender, in_child, rounded
from torch import Tensor, nn

PACKAGES = ("traker", "dattri")
OURS, TRAKER = "tda.trak", "trak"
BATCH = 2000


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    rows: tuple[int, ...] = (62_500, 250_000, 1_000_000)
    """Numbers of synthetic rows, at --dimension."""
    dimension: int = 2048
    """Dimension of the rows and of every projection."""
    dimensions: tuple[int, ...] = (512, 1024, 4096)
    """Other dimensions, at the smallest number of rows."""
    images: int = 200_000
    """Images through the network; 0 leaves them out."""
    distinct_images: int = 50_000
    """How many different ones there are."""
    rival_rows: int = 50_000
    """Synthetic rows that all three packages finalize; 0 leaves that out."""
    rival_images: int = 100
    """Images that the other two packages featurize; 0 leaves that out."""
    targets: int = 100
    """Targets whose extremes are found."""
    budget: float = 1.0
    """GiB of TRAKer's memory budget."""
    folder: str = ""
    """Folder of the rows; without it a temporary one."""


class Linear(nn.Module):
    """f(x) = w . x, whose gradient is x."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Linear(dimension, 1, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Maps (n, dimension) to (n, 1)."""
        return self.weight(rows)


def network() -> nn.Module:
    """Three convolutions and two linear layers on 3 x 32 x 32: 289,194 parameters."""
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 32, 3), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.GELU(), nn.MaxPool2d(2)]
    ending = [nn.Conv2d(64, 64, 3), nn.GELU(), nn.Flatten(), nn.Linear(1024, 216), nn.GELU(), nn.Linear(216, 10)]
    return nn.Sequential(*stages, *ending)


def drawn_rows(count: int, dimension: int, seed: int, device: str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of rows around ten centres, as gradients of classes are, and numbers to predict; drawn where they are needed."""
    generator = torch.Generator(device).manual_seed(seed)
    drawn = {"generator": generator, "device": device}
    centres = torch.randn(10, dimension, generator=torch.Generator().manual_seed(0)).to(device)
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        rows = torch.randn(size, dimension, **drawn)
        rows += centres[torch.randint(10, (size,), **drawn)]
        yield rows, torch.randn(size, **drawn)


def images(count: int, distinct: int = 50_000) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the first `distinct` of cifar10's training images, over and over."""
    from tda.data.downloads import cifar10

    pool = cifar10("train")
    for start in range(0, count, BATCH // 4):
        chosen = torch.arange(start, min(start + BATCH // 4, count)).numpy() % distinct
        pixels = torch.from_numpy(pool.examples[chosen]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()
        yield pixels, torch.from_numpy(pool.labels[chosen])


def our_traker(kind: str, count: int, dimension: int, budget: float, folder: str, device: str):
    """This project's TRAKer of a kind of work, and its checkpoint."""
    from tda.trak import TRAKer
    from tda.trak.projectors import NoOpProjector

    torch.manual_seed(0)
    model = Linear(dimension) if kind == "rows" else network()
    projector = {"projector": NoOpProjector()} if kind == "rows" else {"proj_dim": dimension}
    traker = TRAKer(
        model,
        "regression" if kind == "rows" else "image_classification",
        count,
        folder,
        device=device,
        use_half_precision=True,
        keep_features=False,
        memory_budget=round(budget * 2**30),
        logging_level=logging.WARNING,
        **projector,
    )
    return traker, model.state_dict()


def gpu_memory(device: str) -> dict[str, int]:
    """The most that this process's tensors held on a GPU, in MiB; nothing on a CPU."""
    return {"gpu_peak_mib": round(torch.cuda.max_memory_allocated() / 2**20)} if device.startswith("cuda") else {}


def _since(start: float) -> float:
    """Seconds since then, when a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contender
def stage(
    work: str, kind: str, count: int, dimension: int, targets: int, budget: float, distinct: int, folder: str, device: str
) -> Outcome:
    """One stage of this project's program: featurize, finalize, or extremes."""
    import os

    from tda.system.devices import prepare_process

    prepare_process()
    traker, state = our_traker(kind, count, dimension, budget, folder, device)

    def batches(number: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        return drawn_rows(number, dimension, seed, device) if kind == "rows" else images(number, distinct)

    start, began = time.perf_counter(), os.times()
    if work == "featurize":
        traker.load_checkpoint(state, 0)
        for batch in batches(count, 1):
            traker.featurize(batch, num_samples=len(batch[0]))
    elif work == "finalize":
        traker.finalize_features()
    else:
        traker.start_scoring_checkpoint("targets", state, 0, targets)
        for batch in batches(targets, 2):
            traker.score(batch, num_samples=len(batch[0]))
        traker.top_examples("targets", 10)
    seconds, ended = _since(start), os.times()
    processor = ended.user + ended.system - began.user - began.system
    disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    facts = {"processor_seconds": rounded(processor), "disk_gb": rounded(disk / 1e9, 3)} | gpu_memory(device)
    return Outcome([seconds], facts=facts)


@contender
def rival_finalize(package: str, count: int, dimension: int, device: str) -> Outcome:
    """Features of the same rows by another package's own functions, and the memory that takes.

    traker: X^T X and X (X^T X)^-1 of its score computer on its memory-mapped float16 rows. dattri: what its cache does with
    rows that are all in memory; its class has no way to take rows from a disk.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        stored = np.lib.format.open_memmap(path, "w+", np.float16, (count, dimension))
        place = 0
        for rows, _ in drawn_rows(count, dimension, 1):
            stored[place : place + len(rows)] = rows.numpy()
            place += len(rows)
        stored.flush()
        del stored
        gradients = np.load(path, mmap_mode="r+")
        start = time.perf_counter()
        if package == TRAKER:
            from trak.score_computers import BasicScoreComputer

            computer = BasicScoreComputer(dtype=torch.float16, device=device, logging_level=logging.ERROR)
            held = torch.as_tensor(gradients, device=device)
            features = computer.get_x_xtx_inv(held, computer.get_xtx(held))
            written = np.lib.format.open_memmap(Path(folder) / "features.npy", "w+", np.float16, (count, dimension))
            written[:] = features.to(torch.float16).cpu().numpy()
        else:
            held = torch.cat([torch.tensor(gradients[i : i + BATCH]).float().to(device) for i in range(0, count, BATCH)])
            kernel = held.T @ held
            torch.linalg.solve(kernel, held.T)
        return Outcome([_since(start)], facts={"rows": count} | gpu_memory(device))


@contender
def rival_featurize(package: str, count: int, dimension: int, device: str) -> Outcome:
    """Projected gradients of the network by another package, on its first images."""
    from tda.data.downloads import cifar10
    from tda.system.devices import prepare_process

    prepare_process()
    model, pool = network().eval().to(device), cifar10("train")
    pixels = torch.from_numpy(pool.examples[:count]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous().to(device)
    labels = torch.from_numpy(pool.labels[:count]).to(device)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        (_by_traker if package == TRAKER else _by_dattri)(model, pixels, labels, dimension, device, folder)
        return Outcome([_since(start)], facts={"images": count} | gpu_memory(device))


def _by_traker(model: nn.Module, pixels: Tensor, labels: Tensor, dimension: int, device: str, folder: str) -> None:
    from trak import TRAKer

    options = {"proj_dim": dimension, "use_half_precision": False, "logging_level": logging.ERROR, "device": device}
    traker = TRAKer(model=model, task="image_classification", train_set_size=len(pixels), save_dir=folder, **options)
    traker.load_checkpoint(model.state_dict(), model_id=0)
    for batch in zip(pixels.split(50), labels.split(50), strict=True):
        traker.featurize(batch=batch, num_samples=len(batch[0]))


def _by_dattri(model: nn.Module, pixels: Tensor, labels: Tensor, dimension: int, device: str, folder: str) -> None:
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    def loss(parameters: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        logits = torch.func.functional_call(model, parameters, data[0][None])
        probability = torch.exp(-functional.cross_entropy(logits, data[1][None]))
        return torch.log(probability) - torch.log1p(-probability)

    def probability(parameters: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        logits = torch.func.functional_call(model, parameters, data[0][None])
        return torch.exp(-functional.cross_entropy(logits, data[1][None]))

    task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    options = {"proj_dim": dimension, "device": device, "proj_max_batch_size": 32}
    attributor = TRAKAttributor(task, probability, projector_kwargs=options, device=device, regularization=1.0)
    with torch.no_grad():
        attributor.cache(DataLoader(TensorDataset(pixels, labels), batch_size=50))


def measured(kind: str, count: int, dimension: int, settings: Settings) -> dict:
    """The three stages of one size, each in a process of its own, and what they cost an example."""
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="tda-scale-")) / f"{kind}_{count}_{dimension}"
    shared = {"kind": kind, "count": count, "dimension": dimension, "targets": settings.targets, "budget": settings.budget}
    shared |= {"distinct": settings.distinct_images}
    row = {"kind": kind, "count": count, "dimension": dimension}
    try:
        for work in ("featurize", "finalize", "extremes"):
            found = in_child("stage", work=work, folder=str(folder), device=settings.device, **shared)
            processor = found.facts["processor_seconds"]
            row |= {f"{work}_seconds": rounded(found.seconds[0]), f"{work}_processor_seconds": processor}
            row |= {f"{work}_peak_mib": found.peak_mib, "disk_gb": found.facts["disk_gb"]}
            if "gpu_peak_mib" in found.facts:
                row[f"{work}_gpu_peak_mib"] = found.facts["gpu_peak_mib"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return row | {"featurize_microseconds_an_example": rounded(1e6 * row["featurize_processor_seconds"] / count)}


def main(settings: Settings) -> str:
    """Measure and write the result, after each size, so that a long run leaves what it has."""
    content = {"budget_gib": settings.budget, "targets": settings.targets, "rows": []}
    sizes = [("rows", count, settings.dimension) for count in settings.rows]
    sizes += [("rows", min(settings.rows, default=0), dimension) for dimension in settings.dimensions if settings.rows]
    sizes += [("images", settings.images, settings.dimension)] if settings.images else []
    for size in sizes:
        content["rows"].append(measured(*size, settings))
        common.write_result("scale_of_rows", settings.device, content, PACKAGES)
    shared = {"dimension": settings.dimension, "device": settings.device}
    if settings.rival_rows:
        ours = measured("rows", settings.rival_rows, settings.dimension, settings)
        keys = {"seconds": "finalize_seconds", "peak_mib": "finalize_peak_mib", "gpu_peak_mib": "finalize_gpu_peak_mib"}
        found = {key: ours[name] for key, name in keys.items() if name in ours}
        content["finalize"] = [{"contender": "this project, TRAKer"} | found]
        for package, label in ((TRAKER, "traker"), ("dattri", "dattri")):
            found = in_child("rival_finalize", package=package, count=settings.rival_rows, **shared)
            row = {"contender": label, "seconds": rounded(found.seconds[0]), "peak_mib": found.peak_mib}
            content["finalize"].append(row | {key: value for key, value in found.facts.items() if key == "gpu_peak_mib"})
            common.write_result("scale_of_rows", settings.device, content, PACKAGES)
    if settings.rival_images:
        ours = measured("images", max(2000, settings.rival_images), settings.dimension, settings)
        each = ours["featurize_seconds"] / ours["count"]
        content["featurize"] = [{"contender": "this project, TRAKer", "seconds_an_image": rounded(each), "ratio": 1.0}]
        for package, label in ((TRAKER, "traker"), ("dattri", "dattri, with its finalizing")):
            found = in_child("rival_featurize", package=package, count=settings.rival_images, **shared)
            seconds = found.seconds[0] / settings.rival_images
            content["featurize"].append(
                {"contender": label, "seconds_an_image": rounded(seconds), "ratio": rounded(seconds / each, 3)}
            )
            common.write_result("scale_of_rows", settings.device, content, PACKAGES)
    return f"wrote {common.write_result('scale_of_rows', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
