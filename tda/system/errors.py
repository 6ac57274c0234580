"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake of the user or of the machine, told in one sentence that names the file or argument and the mend."""


def in_one_line(error: BaseException) -> str:
    """What an error says, at most 200 characters of it; what it is where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def first_sentence(error: BaseException) -> str:
    """The first sentence of that, without its full stop, for libraries that go on to advise."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200] or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for torch's errors, whose other lines are of its own insides."""
    return str(error).split("\n")[0]
