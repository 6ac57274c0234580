"""Work on several cores by numpy, pyarrow or hashlib, which let other threads run meanwhile; without torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_threads() -> int:
    """How many threads to use: OMP_NUM_THREADS where it is set, as torch does, else the cores that this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield work(item) of each item, in their order, while later ones are under way.

    Items are taken when there is a thread for them, so that few are in memory at once. The first error in their order is
    raised, and what has not begun by then never does.
    """
    threads = num_threads()
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future] = deque()
        try:
            for item in items:
                if len(pending) > threads:
                    yield pending.popleft().result()
                pending.append(pool.submit(work, item))
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
