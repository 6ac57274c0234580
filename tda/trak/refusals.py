"""Refusals that are also the exceptions which a program written for the package `trak` catches."""

from tda.system.errors import UserError


class AssertedError(UserError, AssertionError):
    """Where `trak` asserts: steps in the wrong order, settings other than those a folder was begun with."""


class ModelIDException(AssertedError):
    """A model_id that is not there, or not ready for the step."""


class UnknownExperimentError(UserError, ValueError):
    """An exp_name under which nothing was scored."""


class UnknownNameError(UserError, KeyError):
    """A task or a kind of projection that does not exist."""

    __str__ = Exception.__str__  # KeyError would quote the sentence.


class MeaninglessNameError(UserError, NotImplementedError):
    """A name of `trak` that nothing here could stand for."""
