"""CrossQ + WN: sample-efficient off-policy reinforcement learning with batch and weight normalisation."""

from crossq_wn.api import resume, train
from crossq_wn.errors import UserError
from crossq_wn.trained import load

__all__ = ["UserError", "load", "resume", "train"]
__version__ = "0.1.0"
