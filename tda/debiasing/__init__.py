"""Which training examples should go: wrong labels, and what removing the most helpful ones does."""
