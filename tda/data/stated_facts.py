"""Facts in the texts that state them: where the object of a `subject | relation | object` stands, after its subject."""

from tda.data.pools import Asked


def parts_of_fact(name: str) -> tuple[str, str, str] | None:
    """Subject, relation and object of a fact's name, as texts write them; None for a name of another form."""
    parts = [part.strip() for part in name.split(" | ")]
    if len(parts) != 3 or not all(parts):
        return None
    subject, relation, answer = parts
    return _as_written(subject), relation, _as_written(answer)


def asked_of_text(text: str, fact: str) -> Asked | None:
    """What a text asks for that states a fact: the last place at which the object stands, word for word, after the subject.

    None where either is not there in these words, or the object stands first, so that a model that reads from left to right is
    not told of whom the text speaks.
    """
    parts = parts_of_fact(fact)
    if parts is None:
        return None
    subject, _, answer = parts
    first, last = text.find(subject), text.rfind(answer)
    if first < 0 or last < first + len(subject):
        return None
    return Asked(fact, (last, last + len(answer)))


def _as_written(part: str) -> str:
    return part.strip('"').replace("_", " ")
