"""Recorded transitions: files of several kinds, what they hold, whether they fit a task, and writing them."""
