"""Long work of a method in parts, each kept in a file until all are done, so that a killed run loses one part at most."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tda.system.errors import UserError
from tda.system.files import sha256
from tda.system.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class ResumableParts:
    """Parts of one piece of work. folder: of their files; work: all that their numbers depend on."""

    folder: Path
    work: str

    def result(self, part: Tensor, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `compute` returns for the part (m,) int64, ascending numbers, or what an earlier run of the same work left."""
        path, work = self._path(part), sha256(self.work.encode())
        with contextlib.suppress(UserError):  # no such file, or one of no use: it is computed anew and replaced
            tensors, info = read_tensors(path)
            if info["work"] == work:
                return tensors
        found = {name: tensor.cpu().contiguous() for name, tensor in compute().items()}
        write_tensors(path, found, {"work": work})
        return found

    def remove(self, parts: Sequence[Tensor]) -> None:
        """Delete the parts' files, and the folder unless another process is at the same work."""
        for part in parts:
            self._path(part).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, part: Tensor) -> Path:
        return self.folder / f"{int(part[0])}_to_{int(part[-1])}.safetensors"
