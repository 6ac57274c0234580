"""How fast one new example is answered from stored projected gradients, exactly and by faiss, and how much faiss misses.

The network of scale_of_rows.py learns CIFAR-10 for some steps; its gradients of the training images are projected, finalized
and indexed. A query is a test image's gradient, its solution, and the ten training images at either end. Times are processor
seconds of one query alone, without the network's pass, which is told beside it. Needs req-index.txt.
Writes benchmarks/results/gradient_index.json.
"""

import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import common
import torch
from common import Outcome, contender, in_child, rounded
from scale_of_rows import images, network
from torch.nn import functional

PACKAGES = ("faiss-cpu",)


@dataclass
class Settings:
    """The constants to edit."""

    device: str = common.default_device()
    """Device to compute on: cpu or cuda."""
    images: int = 50_000
    """Training images in the index."""
    steps: int = 300
    """Steps of 128 images that the network learns before."""
    dimension: int = 2048
    """Dimension of the projected gradients."""
    queries: int = 50
    """Test images, one query each."""
    kinds: tuple[str, ...] = ("IVF256+SQfp16", "HNSW32+Flat")
    """Indexes of faiss, with + in place of the commas in their names."""
    candidates: int = 200
    """Candidates at either end whose scores are computed exactly."""
    efforts: tuple[int, ...] = (8, 32, 128)
    """Cells looked into, or width of a graph's search."""


def trained(steps: int) -> torch.nn.Module:
    """The network after so many steps of Adam on the first images."""
    from tda.data.downloads import cifar10

    model, pool = network(), cifar10("train")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(pool.labels), (128,), generator=generator).numpy()
        pixels = torch.from_numpy(pool.examples[chosen]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        loss = functional.cross_entropy(model(pixels), torch.from_numpy(pool.labels[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@contender
def answered(
    device: str, images_: int, steps: int, dimension: int, queries: int, kinds: list, candidates: int, efforts: list
) -> Outcome:
    """Everything in one process, for all indexes hold the same rows."""
    from tda.data.downloads import cifar10
    from tda.system.devices import prepare_process
    from tda.trak import TRAKer
    from tda.trak.faiss_index import FaissIndex, recall

    prepare_process()
    model, rows = trained(steps), []
    with tempfile.TemporaryDirectory() as folder:
        options = {"device": device, "proj_dim": dimension, "use_half_precision": True, "keep_features": False}
        traker = TRAKer(model, "image_classification", images_, folder, logging_level=logging.WARNING, **options)
        traker.load_checkpoint(model.state_dict(), 0)
        for batch in images(images_):
            traker.featurize(batch, num_samples=len(batch[0]))
        traker.finalize_features()
        pool, projected, passes = cifar10("test"), [], []
        for place in range(queries):
            pixels = torch.from_numpy(pool.examples[place : place + 1]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
            start = time.process_time()
            projected.append({0: traker.project((pixels, torch.from_numpy(pool.labels[place : place + 1])))})
            passes.append(time.process_time() - start)
        exact = traker.index()
        truth = [exact.search(query) for query in projected]
        held = exact.in_memory()

        def row(label: str, search, built: float = 0.0) -> dict:
            seconds, found = [], []
            for query in projected:
                start = time.process_time()
                found.append(search(query))
                seconds.append(time.process_time() - start)
            hit = statistics.mean(recall(one, other) for one, other in zip(found, truth, strict=True))
            return {
                "index": label,
                "milliseconds": rounded(1e3 * statistics.median(seconds)),
                "recall": rounded(hit, 3),
                "build": rounded(built, 3),
            }

        rows += [row("exact, rows on disk (cached)", exact.search), row("exact, rows in memory in float32", held.search)]
        for kind in kinds:
            start = time.process_time()
            index = FaissIndex(held, Path(folder) / f"{kind}.faiss", kind)
            built = time.process_time() - start
            for effort in efforts:
                search = partial(index.search, k=10, candidates=candidates, effort=effort)
                rows.append(row(f"faiss {kind}, effort {effort}", search, built))
                built = 0.0
    return Outcome([sum(passes)], facts={"rows": rows, "pass_milliseconds": rounded(1e3 * statistics.median(passes))})


def main(settings: Settings) -> str:
    """Measure and write the result."""
    arguments = {
        "steps": settings.steps,
        "dimension": settings.dimension,
        "queries": settings.queries,
        "images_": settings.images,
    }
    kinds = [kind.replace("+", ",") for kind in settings.kinds]
    arguments |= {"kinds": kinds, "candidates": settings.candidates, "efforts": list(settings.efforts)}
    found = in_child("answered", device=settings.device, **arguments)
    content = {**arguments, **found.facts, "peak_mib": found.peak_mib}
    return f"wrote {common.write_result('gradient_index', settings.device, content, PACKAGES)}"


if __name__ == "__main__":
    common.run(Settings, main)
