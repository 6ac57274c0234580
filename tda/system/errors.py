"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake of the user or of the machine, told in one sentence that names the file or argument and the mend."""
