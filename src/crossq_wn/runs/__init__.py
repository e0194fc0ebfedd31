"""The run directory: configuration, tables, checkpoints and protocol."""
