"""Approximate search in stored projected gradients by faiss (Douze et al. 2024), beside the exact one of gradient_index.py.

faiss finds candidates among the vectors w of the training examples; their scores are then computed exactly from the stored
rows. So every score is right, and what may be wrong is that an example of the true k is missing: recall says how seldom.
The package is optional: req-index.txt.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import locked, write_atomically
from tda.trak.folder import forget_identity, read_identity, write_identity
from tda.trak.gradient_index import GradientIndex
from tda.trak.top_examples import Extremes

_ADDED_BYTES = 2**27
"""Vectors that are handed to faiss at once."""

_TRAINED_PER_LIST = 64
"""Vectors a cell of an inverted file from which its centre is learned."""


class FaissIndex:
    """An index in a file, built once; its candidates are scored by the exact index that it was built from."""

    def __init__(self, exact: GradientIndex, path: Path, kind: str = "IVF256,SQfp16", seed: int = 0) -> None:
        """Open the index in the file `path`, or build it where it is missing or of other rows.

        kind: faiss's own name (index_factory): an inverted file such as "IVF256,SQfp16" (256 cells, vectors in float16), a
        graph such as "HNSW32,Flat"; seed: of the sample from which cells are learned. Raises UserError without the package,
        or for a kind that faiss does not know.
        """
        self._faiss, self.exact = _package(), exact
        identity = json.dumps([exact.identity(), kind, seed])
        with locked(path):
            if read_identity(path) != identity:
                forget_identity(path)
                built = self._built(kind, seed)
                write_atomically(path, lambda temporary: self._faiss.write_index(built, str(temporary)))
                write_identity(path, identity)
        self._index = self._faiss.read_index(str(path))

    def search(self, gradients: Mapping[int, Tensor], k: int = 10, candidates: int = 100, effort: int = 16) -> Extremes:
        """As GradientIndex.search, from so many candidates at each end.

        effort: cells that are looked into, or how wide a graph is searched. Where fewer than k are found the lists are shorter.
        """
        queries, wanted = self.exact.queries(gradients), max(k, candidates)
        ends = []
        for sign in (1, -1):
            _, candidates_of = self._index.search(sign * queries, wanted, params=self._parameters(effort))
            best = [self._best(each, query, sign, k) for each, query in zip(candidates_of, queries, strict=True)]
            shortest = min(len(positions) for positions, _ in best)
            ends += [np.stack([part[:shortest] for part in parts], axis=1) for parts in zip(*best, strict=True)]
        return Extremes(*ends)

    def _best(self, candidates: np.ndarray, query: np.ndarray, sign: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best of one target's candidates by their exact scores, extremes first."""
        positions = np.sort(candidates[candidates >= 0])
        scores = self.exact.vectors(positions) @ query
        order = np.argsort(-sign * scores, kind="stable")[:k]
        return positions[order], scores[order]

    def _built(self, kind: str, seed: int):
        exact, faiss = self.exact, self._faiss
        try:
            index = faiss.index_factory(exact.dimension, kind, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise UserError(f"faiss knows no index {kind!r}; choose one such as 'IVF256,SQfp16' or 'HNSW32,Flat'") from error
        if not index.is_trained:
            cells = getattr(index, "nlist", 256)
            if cells > exact.count:
                raise UserError(f"an index {kind!r} has more cells than the {exact.count} training examples; choose fewer")
            sample = np.random.default_rng(seed).permutation(exact.count)[: _TRAINED_PER_LIST * cells]
            index.train(exact.vectors(np.sort(sample)))
        for block in exact.blocks(max(1, _ADDED_BYTES // (4 * exact.dimension))):
            index.add(block)
        return index

    def _parameters(self, effort: int):
        faiss = self._faiss
        if isinstance(self._index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=effort)
        return faiss.SearchParametersIVF(nprobe=effort) if isinstance(self._index, faiss.IndexIVF) else None


def recall(found: Extremes, exact: Extremes) -> float:
    """Share of the exact extremes (both ends, all targets) that were found."""
    pairs = ((found.helpful, exact.helpful), (found.harmful, exact.harmful))
    hits = [np.isin(right[:, column], left[:, column]).sum() for left, right in pairs for column in range(right.shape[1])]
    return float(sum(hits) / sum(right.size for _, right in pairs))


def _package():
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise UserError("approximate search needs faiss; install it by pip install -r req-index.txt") from error
    return faiss
