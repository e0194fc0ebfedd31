"""Training: the loop and what surrounds it, trained policies, and the package's Python interface."""
