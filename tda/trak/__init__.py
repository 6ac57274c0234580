"""TRAK (Park et al., ICML 2023) with the interface of the package `trak`: in a program's imports, write `tda.trak` for `trak`."""

from tda.trak.traker import TRAKer

__all__ = ["TRAKer"]
