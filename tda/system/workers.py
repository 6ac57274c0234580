"""Independent pieces of work beside each other on a CPU: threads that compute with one thread each.

Torch releases the interpreter while it computes, so that such threads scale like processes without their start-up
time and memory; and a result then does not depend on how many pieces are at work, here or in another process.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


def in_order(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield work(0), work(1), ... in order, while later ones are under way."""
    with _single_threaded_pool(count) as pool:
        yield from pool.map(work, range(count))


def as_completed(work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield the results of work(0) ... work(count - 1) as they come; an abandoned iteration cancels what has not begun."""
    with _single_threaded_pool(count) as pool:
        pending = {pool.submit(work, number) for number in range(count)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


@contextmanager
def _single_threaded_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(max(1, min(threads, count)), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)
