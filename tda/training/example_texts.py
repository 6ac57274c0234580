"""The texts behind a member's examples, for methods that read nothing else."""

from collections.abc import Sequence

from tda.data.kinds import shown_inputs
from tda.data.splits import Split
from tda.system.errors import UserError
from tda.training.members import Member
from tda.training.study import Study


def check_texts(study: Study, seed_ids: Sequence[int], settings: dict) -> None:
    """Raise UserError unless the study's examples have texts."""
    _, text = shown_inputs(study.task.kind, study.train.inputs, 0)
    if text is None:
        raise UserError(f"the examples of task {study.task.name} are no texts, and this method reads nothing else")


def texts_of_training(member: Member, train: Split) -> list[str]:
    """The texts of training examples, as a person reads them."""
    return _texts(member.study, member.study.train, train)


def texts_of_test(member: Member, test: Split) -> list[str]:
    """The texts of test examples."""
    return _texts(member.study, member.study.test, test)


def _texts(study: Study, whole: Split, part: Split) -> list[str]:
    # What a model takes may be vectors; the study's own split has the tokens.
    place = {index: number for number, index in enumerate(whole.indices.tolist())}
    return [shown_inputs(study.task.kind, whole.inputs, place[index])[1] for index in part.indices.tolist()]
