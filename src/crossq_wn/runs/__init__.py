"""What a run is and what it leaves on disk: configuration, tables, checkpoints, protocol."""
