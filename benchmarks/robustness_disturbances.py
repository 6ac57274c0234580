"""Kills, signals, limits and second writers, after which the same command must end with the same bytes; for robustness.py."""

import random
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from robustness_study import PROGRAM, STEPS, Attempt, Reference, again, before_step, contents, start


def kills(reference: Reference, rounds: int) -> Iterator[Attempt]:
    """Kill steps at random moments, up to three times in a row, then let them end."""
    for number in range(rounds):
        for script in STEPS:
            generator = random.Random(f"{script} {number}")
            shares = (generator.uniform(0, 0.6), generator.uniform(0.5, 1), generator.uniform(0.6, 1))

            def run(script: str = script, shares: tuple[float, ...] = shares) -> list[str]:
                with tempfile.TemporaryDirectory() as folder:
                    root, hits = before_step(reference, Path(folder) / "root", script), 0
                    for share in shares:
                        process = start(script, root)
                        time.sleep(share * reference.steps[script].seconds)
                        hits += process.poll() is None
                        process.kill()
                        process.communicate()
                    return [again(script, root, reference)] * hits

            yield Attempt("killed", f"{script}, round {number}", run)


def signals(reference: Reference, rounds: int) -> Iterator[Attempt]:
    """Interrupt steps at random moments, in every other round within the first second."""
    for number in range(rounds):
        for script in STEPS:
            generator, first = random.Random(f"{script} {number}"), number % 2 == 0
            seconds = generator.uniform(0.15, 1) if first else generator.uniform(0.3, 0.95) * reference.steps[script].seconds

            def run(script: str = script, seconds: float = seconds) -> list[str]:
                with tempfile.TemporaryDirectory() as folder:
                    root = before_step(reference, Path(folder) / "root", script)
                    process = start(script, root)
                    time.sleep(seconds)
                    process.send_signal(signal.SIGINT)
                    _, errors = process.communicate()
                    reason = _not_interrupted(script, process.returncode, errors)
                    return [reason or again(script, root, reference)]

            yield Attempt("in the first second" if first else "later", f"{script}, after {seconds:.2f} s", run)


def _not_interrupted(script: str, status: int, errors: str) -> str:
    """Why an interrupted script did not end as it should; a program of the user's own ends as Python ends it."""
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip() and "it/s" not in line]
    interrupted = status == 130 and lines and lines[-1].startswith("interrupted") and "Traceback" not in errors
    return "" if status == 0 or interrupted or script == PROGRAM else f"status {status}: {errors.strip()[-200:]}"


def limits(reference: Reference) -> Iterator[Attempt]:
    """Files that may not grow, and address space that may not either, for every step."""
    for script in STEPS:
        for size in (512, 20_000):
            yield _limited(reference, script, "disk full", resource.RLIMIT_FSIZE, size)
        for share in (0.6, 0.9):
            size = int(share * reference.steps[script].address_space)
            yield _limited(reference, script, "memory short", resource.RLIMIT_AS, size)


def _limited(reference: Reference, script: str, kind: str, limit: int, size: int) -> Attempt:
    def restrict() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(limit, (size, size))

    def run() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            root = before_step(reference, Path(folder) / "root", script)
            process = start(script, root, preexec_fn=restrict)
            _, errors = process.communicate()
            return [_not_refused(script, process.returncode, errors) or again(script, root, reference)]

    return Attempt(kind, f"{script}, {size:,} bytes", run)


def _not_refused(script: str, status: int, errors: str) -> str:
    """Why a script that lacked something did not end as it should."""
    lines = errors.strip().splitlines()
    refused = status == 2 and lines and lines[-1].startswith("error: ") and "Traceback" not in errors
    return "" if status == 0 or refused or (script == PROGRAM and status > 0) else f"status {status}: {errors.strip()[-200:]}"


def writers(reference: Reference) -> Iterator[Attempt]:
    """Two processes at the same step."""
    for script in STEPS:

        def run(script: str = script) -> list[str]:
            with tempfile.TemporaryDirectory() as folder:
                root = before_step(reference, Path(folder) / "root", script)
                both = [start(script, root) for _ in range(2)]
                ended = [process.communicate()[1] for process in both]
                if any(process.returncode for process in both):
                    return [" | ".join(errors.strip()[-200:] for errors in ended)]
                return ["" if contents(root) == reference.contents else "other bytes"]

        yield Attempt("two at once", script, run)
