"""TRAK (Park et al., ICML 2023) with the interface of the package `trak`: a program imports from `tda.trak` instead."""

from tda.trak.traker import TRAKer
from tda.trak.utils import test_install

__all__ = ["TRAKer", "test_install"]

__version__ = VERSION = "0.3.2"
"""The version of `trak` whose interface this is."""
