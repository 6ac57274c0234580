"""Differentiation through a whole training, forwards and backwards: how a trained model moves with every example's weight."""
