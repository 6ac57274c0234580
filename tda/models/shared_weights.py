"""Modules whose copies share the memory of what is not trained."""

import copy
from typing import Self

from torch import nn


class SharesFrozenWeights(nn.Module):
    """A module whose deep copies have trained parameters of their own, and frozen ones in common."""

    def __deepcopy__(self, memo: dict) -> Self:
        for parameter in self.parameters():
            if not parameter.requires_grad:
                memo[id(parameter)] = nn.Parameter(parameter.data, requires_grad=False)
        duplicate = type(self).__new__(type(self))
        memo[id(self)] = duplicate
        duplicate.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return duplicate
