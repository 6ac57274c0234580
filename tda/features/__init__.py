"""Training feature attribution: which pixels of a training image carry its influence on a test prediction."""
