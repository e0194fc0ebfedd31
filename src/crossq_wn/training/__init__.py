"""The training loop, and what is done with a trained run."""
