"""Several programs in one folder: none loses what another wrote, and none goes on with settings that are not the folder's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import CHECKOUT
from trak_programs import DIMENSION, TRAIN, image_data, image_model, states

from tda.trak import TRAKer

ATTEMPTS = 15


def featurize_part(folder: Path, half: int, data_seed: int, settings_seed: int = 0) -> None:
    """Half of the training examples, in batches of two."""
    options = {"device": "cpu", "proj_dim": DIMENSION, "projector_seed": settings_seed}
    traker = TRAKer(image_model(), "image_classification", TRAIN, folder, **options)
    traker.load_checkpoint(states()[0], 0)
    for start in range(half * TRAIN // 2, (half + 1) * TRAIN // 2, 2):
        inds = range(start, start + 2)
        traker.featurize(image_data(TRAIN, seed=data_seed)[inds], inds=inds)


def serve() -> None:
    """Do what each line of standard input says: the folder, the half, the seeds of data and settings."""
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        folder, *numbers = line.split("\t")
        try:
            featurize_part(Path(folder), *map(int, numbers))
            print("done", flush=True)
        except Exception as error:
            print(error, flush=True)


class Pair:
    """Two processes that are told to start at the same moment."""

    def __enter__(self) -> "Pair":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, __file__]
        environment = {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}:{Path(__file__).parent}", "PATH": ""}
        self.processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
        assert [process.stdout.readline() for process in self.processes] == ["ready\n"] * 2
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def run(self, *tasks: tuple) -> list[str]:
        """What each says at the end of its task."""
        for process, task in zip(self.processes, tasks, strict=True):
            process.stdin.write("\t".join(map(str, task)) + "\n")
        for process in self.processes:
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in self.processes]


def test_processes_that_start_together_keep_each_others_rows(tmp_path: Path):
    featurize_part(tmp_path / "alone", 0, 0)
    featurize_part(tmp_path / "alone", 1, 0)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "alone" / "0").iterdir()}
    assert {"gradients.npy", "marks.npy", "identities.npy", "origin.json"} <= set(expected)
    with Pair() as pair:
        for attempt in range(ATTEMPTS):
            folder = tmp_path / f"{attempt}"
            assert pair.run((folder, 0, 0), (folder, 1, 0)) == ["done", "done"]
            assert {path.name: path.read_bytes() for path in (folder / "0").iterdir()} == expected


def test_processes_that_replace_rows_of_other_data_keep_each_others(tmp_path: Path):
    for half in range(2):
        featurize_part(tmp_path / "alone", half, 1)
    expected = np.load(tmp_path / "alone" / "0" / "gradients.npy")
    with Pair() as pair:
        for attempt in range(ATTEMPTS):
            folder = tmp_path / f"{attempt}"
            for half in range(2):
                featurize_part(folder, half, 0)
            assert pair.run((folder, 0, 1), (folder, 1, 1)) == ["done", "done"]
            traker = TRAKer(image_model(), "image_classification", TRAIN, folder, device="cpu", proj_dim=DIMENSION)
            traker.finalize_features()
            np.testing.assert_array_equal(np.load(folder / "0" / "gradients.npy"), expected)


def test_of_processes_with_other_settings_one_is_refused(tmp_path: Path):
    with Pair() as pair:
        for attempt in range(ATTEMPTS):
            folder = tmp_path / f"{attempt}"
            said = sorted(pair.run((folder, 0, 0, 0), (folder, 1, 0, 7)))
            assert said[1] == "done" and "was begun with another projector_seed" in said[0]


if __name__ == "__main__":
    serve()
