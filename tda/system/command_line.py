"""From a script's constants to its step and the closing line: the only place that reads the command line and prints.

A script gives the constants at its top as a dataclass each of whose fields is followed by a line of documentation. The same
lines are the arguments and the text of `--help`; a constant is the default of its argument. What computes is imported only
once the arguments are right, so that neither `--help` nor a mistake waits for torch.
"""

import atexit
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from tda.system.arguments import parse
from tda.system.errors import UserError

_INTERRUPTED = "interrupted; the same command continues where this one stopped\n"
_OUT_OF_MEMORY = (
    "error: memory ran out; choose fewer --methods at once, fewer examples by --num_per_class or a smaller test subset, fewer "
    "threads by OMP_NUM_THREADS, or --device cpu; the same command then continues where this one stopped\n"
)
_PIPE_CLOSED = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1


def run(settings: object, description: str, main: Callable[..., str] | None = None) -> None:
    """Parse the command line over `settings`, do the step, and print the closing line that it returns.

    main: what is done with the settings; by default `main` of the step whose file is named like that of the settings' class.
    A UserError ends the process with its sentence on standard error and exit status 2, an interrupt with 130, at any moment.
    """
    try:
        chosen = parse(settings, description, sys.argv[1:])
        closing_line = (main or _main_of(type(settings)))(chosen)
    except UserError as error:
        _end_progress_bars()
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        _end_progress_bars()
        sys.stderr.write(_INTERRUPTED)
        sys.exit(130)
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        if not _is_lack_of_memory(error):
            raise
        _end_progress_bars()
        sys.stderr.write(_OUT_OF_MEMORY)
        sys.exit(2)
    _tell(closing_line)
    # The work is done: an interrupt while libraries end their threads would only look as if it were not.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _end_progress_bars() -> None:
    """End the lines of progress bars that an error has left open, so that its sentence begins a line of its own."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    for bar in list(getattr(bars, "_instances", ())):
        bar.close()


def _is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, or that of torch on a CPU or a GPU, whose type torch alone knows.

    NVIDIA's libraries say CUBLAS_STATUS_ALLOC_FAILED, and the like, where a GPU has no room for their own work.
    """
    words = ("allocate memory", "out of memory", "not enough memory", "failed to map segment", "status_alloc_failed")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _tell(closing_line: str) -> None:
    """Print the closing line; a reader that has gone away, as `head` does, is no mistake of the step's, which is done."""
    try:
        sys.stdout.write(f"{closing_line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would be written, and fail, once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def _main_of(settings_class: type) -> Callable[..., str]:
    stem = settings_class.__module__.rpartition(".")[2]
    with _interrupts_at_once():
        return importlib.import_module(f"tda.steps.{stem}").main


@contextlib.contextmanager
def _interrupts_at_once() -> Iterator[None]:
    """Let an interrupt end the process without an exception, which libraries that are being imported take for their own."""

    def end(*_: object) -> None:
        os.write(2, _INTERRUPTED.encode())
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
