"""What an ensemble's members say of each training example by themselves, without a score: the baselines of debiasing.

Everything is computed seed by seed and kept in results/<experiment>/debiasing/, under all that it depends on, so that a killed
run loses one seed's at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tda.data.splits import Split
from tda.debiasing.suspicion import Suspects, neighbour_disagreement
from tda.debiasing.training_history import forgetting
from tda.debiasing.wrong_labels import self_influence
from tda.gradients.representations import penultimate_representations
from tda.methods.registry import load_method
from tda.scores.fresh_scores import Checkpoints
from tda.system.resumable_parts import ResumableParts
from tda.training.evaluation import logits_of_split
from tda.training.members import built, load_members
from tda.training.study import Study


@dataclass(frozen=True)
class MemberSignals:
    """The signals of a study's seeds; checkpoints: what is on disk of them."""

    study: Study
    checkpoints: Checkpoints
    seed_ids: Sequence[int]

    def logits(self, part: str) -> np.ndarray:
        """Logits (seeds, n, C) float32 of the last checkpoints on the "train" or "test" part."""

        def compute(seed_id: int) -> Tensor:
            (member,) = load_members(self.study, seed_id, self._epochs(seed_id)[-1:])
            return logits_of_split(member.model, member.study.inputs(getattr(self.study, part))).float()

        return self._of_seeds(f"{part}_logits", "", compute)

    def forgetting(self) -> np.ndarray:
        """How often (seeds, n) a right prediction of a training example turned wrong between kept checkpoints.

        Forgetting events (Toneva et al. 2019), of kept epochs alone. An example that no checkpoint has right gets their number,
        more than any other can have.
        """

        def compute(seed_id: int) -> Tensor:
            members = load_members(self.study, seed_id, self._epochs(seed_id))
            train = members[0].study.inputs(self.study.train)
            predicted = [logits_of_split(member.model, train).argmax(dim=1).cpu() for member in members]
            return torch.from_numpy(forgetting((torch.stack(predicted) == self.study.train.labels).numpy()))

        return self._of_seeds("forgetting", "", compute)

    def neighbours_of_other_labels(self, count: int) -> np.ndarray:
        """Share (seeds, n) of an example's `count` nearest training examples with another label than its own.

        Nearest by the cosine of the last checkpoint's penultimate representations, as RepSim takes it.
        """

        def compute(seed_id: int) -> Tensor:
            (member,) = load_members(self.study, seed_id, self._epochs(seed_id)[-1:])
            train = member.study.inputs(self.study.train)
            found = penultimate_representations(member.model, train.inputs)
            return neighbour_disagreement(found, train.labels, count)

        return self._of_seeds("neighbours", str(count), compute)

    def left_out_wrong(self) -> np.ndarray:
        """The chance (1, n) that a label is wrong, by leave-one-out predictions of the base model's layers.

        See left_out_predictions.py; the base, which all seeds share, saw none of the labels.
        """

        def compute(seed_id: int) -> Tensor:
            members = built(load_members(self.study, seed_id, self._epochs(seed_id)[-1:]))
            ((_, wrong),) = Suspects(self.study, members, num_folds=2).by_start
            return wrong

        return self._of_seeds("left_out_wrong", "", compute, self.seed_ids[:1])

    def self_influence(self, method: str) -> np.ndarray:
        """Score (seeds, n) of each training example for itself under the last checkpoint, by a method's default settings."""
        entry = load_method(method)

        def compute(seed_id: int) -> Tensor:
            (member,) = load_members(self.study, seed_id, self._epochs(seed_id)[-1:])
            train: Split = member.study.inputs(self.study.train)
            return self_influence(entry, member, train)

        return self._of_seeds(f"self_influence_{method}", repr(sorted(entry.settings.items())), compute)

    def _epochs(self, seed_id: int) -> list[int]:
        return sorted(epoch for seed, epoch in self.checkpoints.infos if seed == seed_id)

    def _of_seeds(
        self, name: str, settings: str, compute: Callable[[int], Tensor], seed_ids: Sequence[int] | None = None
    ) -> np.ndarray:
        """What `compute` says of each seed, by default of all, float32, from its file or made now."""
        found = []
        for seed_id in tqdm(self.seed_ids if seed_ids is None else seed_ids, desc=name.replace("_", " "), delay=2):
            hashes = [self.checkpoints.hash_of((seed_id, epoch)) for epoch in self._epochs(seed_id)]
            work = repr((name, settings, hashes, self.study.hashes))
            parts = ResumableParts(self.study.results.path / "debiasing" / name, work)

            def compute_named(seed_id: int = seed_id) -> dict[str, Tensor]:
                return {"values": compute(seed_id).float()}

            found.append(parts.result(torch.tensor([seed_id]), compute_named)["values"].numpy())
        return np.stack(found)
