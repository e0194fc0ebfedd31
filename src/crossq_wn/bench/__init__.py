"""Benchmarks: how fast training is on this machine, compared with what the machine can do."""
