"""The registry of attribution methods. Adding a method is adding one file to this package."""

import importlib
import pkgutil

from tda.methods.registry import METHODS, Method, method_named

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "method_named"]
