"""One file for each kind of script: what the step reads, computes and writes."""
