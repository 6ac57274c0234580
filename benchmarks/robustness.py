"""Mistakes, kills, signals, full disks, short memory and second writers, and what comes of them; fills docs/robustness.md.

    python benchmarks/robustness.py                             everything, about an hour of two CPU cores
    python benchmarks/robustness.py --only arguments            one of arguments, files, traker, kills, signals, limits, writers
    python benchmarks/robustness.py --folder F --minutes 5      ends after five minutes; the same command goes on

A case counts as handled if the process ends with status 2 and one sentence, without a traceback, in 90 seconds and with
every finished file as it was. A spoilt file is handled too if the process ends with status 0 and all other products have the
bytes of the undisturbed study, and if a step makes the file itself, this one too: what was spoilt has no effect.
A kill, a signal or a limit counts as survived if the same command, run again, ends with the bytes of the undisturbed study.
"""

import argparse
import itertools
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common import CHECKOUT, RESULTS, write_result
from robustness_cases import Case, argument_cases, file_cases, oldest
from robustness_disturbances import kills, limits, signals, writers
from robustness_study import Attempt, Reference, contents, copy_of, environment, undisturbed
from robustness_traker import traker_attempts

_LONGEST = 90


def main() -> None:
    """Run the chosen parts and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="one part alone")
    parser.add_argument("--kills", type=int, default=4, help="rounds over all steps, three kills each")
    parser.add_argument("--signals", type=int, default=6, help="rounds over all steps, a signal each")
    parser.add_argument("--folder", help="where the study and the outcomes so far are kept, for a run in pieces")
    parser.add_argument(
        "--share", default="1/1", help="of a part, such as 2/3 in the second of three processes with one --folder"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so many")
    chosen, begun = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.folder or temporary).resolve()
        reference = undisturbed(folder)
        parts: dict[str, Callable[[], Iterator[Attempt]]] = {
            "arguments": lambda: attempts(argument_cases(), reference),
            "files": lambda: attempts(file_cases(), reference),
            "traker": traker_attempts,
            "kills": lambda: kills(reference, chosen.kills),
            "signals": lambda: signals(reference, chosen.signals),
            "limits": lambda: limits(reference),
            "writers": lambda: writers(reference),
        }
        first, of = map(int, chosen.share.split("/"))
        for name in [chosen.only] if chosen.only else parts:
            tried = itertools.islice(parts[name](), first - 1, None, of)
            rows = outcomes(tried, folder / f"{name}.jsonl", begun + 60 * chosen.minutes)
            if of > 1:
                continue
            if rows is None:
                sys.exit("the time is over; the same command goes on")
            report(name, rows)


def attempts(cases: Iterator[Case], reference: Reference) -> Iterator[Attempt]:
    """Mistakes as attempts."""
    for case in cases:
        yield Attempt(case.kind, case.title, partial(outcome, case, reference))


def outcomes(tried: Iterator[Attempt], record: Path, until: float) -> list[dict] | None:
    """Every attempt's outcomes, those in the record as they stand there; None where the time is over first."""
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    titles = {row["title"] for row in done}
    for attempt in tried:
        if attempt.title in titles:
            continue
        if time.monotonic() > until:
            return None
        reasons = attempt.run()
        row = {"kind": attempt.kind, "title": attempt.title, "tried": len(reasons), "failed": [r for r in reasons if r]}
        done.append(row)
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return done


def report(name: str, rows: list[dict]) -> None:
    """Print a part's outcomes and put them among the others' in results/robustness.json."""
    failed = [{"title": row["title"], "reason": row["failed"][0]} for row in rows if row["failed"]]
    kinds: dict[str, dict] = {}
    for row in rows:
        counts = kinds.setdefault(row["kind"], {"tried": 0, "handled": 0})
        counts["tried"] += row["tried"]
        counts["handled"] += row["tried"] - len(row["failed"])
    for row in failed:
        print(f"  {row['title']}: {row['reason']}")
    print(f"{name}: {kinds}", flush=True)
    path = RESULTS / "robustness.json"
    others = json.loads(path.read_text())["parts"] if path.exists() else {}
    parts = others | {name: {"kinds": kinds, "failed": failed}}
    write_result("robustness", "cpu", {"command": "python benchmarks/robustness.py", "parts": parts})


def outcome(case: Case, reference: Reference) -> list[str]:
    """What a mistake ends in, in a process of its own that need not import everything anew."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of(reference.root, Path(folder) / "root")
        if case.spoil is not None:
            case.spoil(root)
        before = contents(root)
        status, errors, seconds = forked(case, root)
        after = contents(root)
        kept = all(after.get(path) == content for path, content in before.items())
        if case.spoilt and not case.may_recompute:
            path = str(oldest(reference.root, case.spoilt).relative_to(reference.root))
            after[path] = reference.contents.get(path)
            after = {path: content for path, content in after.items() if content is not None}
        return [judged(case, status, errors, seconds, kept, after == reference.contents)]


def judged(case: Case, status: int, errors: str, seconds: float, kept: bool, whole: bool) -> str:
    """Why a case is not handled; empty where it is."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    if case.spoilt and status == 0:
        return "" if whole else "no refusal, and other bytes"
    if seconds >= _LONGEST:
        return "no end within a minute and a half"
    if status != 2:
        return f"status {status}: {lines[-1] if lines else ''}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines: {lines[-1] if lines else ''}"
    if case.names not in lines[0]:
        return f"does not say {case.names}: {lines[0]}"
    return "" if kept else "finished files changed"


def forked(case: Case, root: Path) -> tuple[int, str, float]:
    """Run a script in a fork of this process, which has imported the libraries; returns status, standard error, seconds."""
    import pandas  # noqa: F401
    import torch  # noqa: F401

    with tempfile.TemporaryFile("w+") as errors:
        begun, child = time.perf_counter(), os.fork()
        if child == 0:
            _be_the_script(case, root, errors.fileno())
        status = None
        while status is None and time.perf_counter() - begun < _LONGEST:
            found, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if found else None
            time.sleep(0.01)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        errors.seek(0)
        return -9 if status is None else status, errors.read(), time.perf_counter() - begun


def _be_the_script(case: Case, root: Path, errors: int) -> None:
    status = 1
    try:
        os.environ.update(environment(root))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(errors, 2)
        sys.argv = [str(CHECKOUT / case.script), *case.arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
