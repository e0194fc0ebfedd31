"""Benchmarks: how fast training is on this machine, compared with what the machine can do."""

SECONDS = 0.7  # for each measurement in each round, unless the user wants others
