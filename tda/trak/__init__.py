"""TRAK (Park et al., ICML 2023) with the interface of the package `trak`: a program imports from `tda.trak` instead."""

from tda.trak.traker import TRAKer

__all__ = ["TRAKer"]
