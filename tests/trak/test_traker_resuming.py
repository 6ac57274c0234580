"""TRAKer's files: a program that is killed or started again goes on, and ends with the same bytes."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT, contents
from trak_programs import TARGETS, TRAIN, image_data, image_model, scores_of, states

from tda.gradients.projections import Projection

KEPT = ("**/*.json", "**/*.npy", "**/*.mmap")


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = (image_model(), states(), image_data(TRAIN), image_data(TARGETS, seed=1))
    scores_of(*arguments, save_dir=tmp_path)
    before = contents(tmp_path, *KEPT)
    monkeypatch.setattr(Projection, "project", lambda *_: pytest.fail("gradients were computed again"))
    scores_of(*arguments, save_dir=tmp_path)
    assert contents(tmp_path, *KEPT) == before


PROGRAM = (sys.executable, CHECKOUT / "tests" / "trak_programs.py")


def killed(folder: Path, words: tuple[str, ...], delay: float) -> bool:
    """Start the image classifier's program, kill it after a while at work, and tell whether it was still at work."""
    process = subprocess.Popen([*PROGRAM, folder, *words], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.kill()
        return "finished" not in process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def assert_resumes(folder: Path, kills: int, *words: str) -> int:
    """Kill the program at random moments until it is finished, as often as it takes; returns how many kills hit it at work."""
    start = time.perf_counter()
    subprocess.run([*PROGRAM, folder / "undisturbed", *words], cwd=CHECKOUT, check=True, capture_output=True)
    longest, hits, rounds = time.perf_counter() - start, 0, 0
    expected = contents(folder / "undisturbed", *KEPT)
    while hits < kills:
        rounds += 1
        disturbed = folder / f"disturbed {rounds}"
        while hits < kills and killed(disturbed, words, random.uniform(0, longest / 4)):
            hits += 1
        subprocess.run([*PROGRAM, disturbed, *words], cwd=CHECKOUT, check=True, capture_output=True)
        assert contents(disturbed, *KEPT) == expected
        shutil.rmtree(disturbed)
    return hits


@pytest.mark.parametrize("words", [(), ("large",)], ids=str)
def test_killed_program_resumes_with_the_same_bytes(tmp_path: Path, words: tuple[str, ...]):
    assert_resumes(tmp_path, 3, *words)


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("large",)], ids=str)
def test_program_killed_at_twenty_random_moments_resumes_with_the_same_bytes(tmp_path: Path, words: tuple[str, ...]):
    assert assert_resumes(tmp_path, 20, *words) == 20
