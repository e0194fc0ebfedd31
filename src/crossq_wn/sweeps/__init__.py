"""Sweeps: many runs from one file, of which nothing is lost and nothing is done twice."""
