"""What an experiment is called, where its files lie, its seeds, and the record of what was computed."""
