"""What every room stands on: errors, files that are whole or absent, devices, workers, random streams, the command line."""
