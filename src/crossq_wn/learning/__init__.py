"""From transitions to gradient updates: replay, the learner, evaluation and diagnostics."""
