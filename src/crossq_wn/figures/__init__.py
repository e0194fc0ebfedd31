"""Which pictures are there? One file per kind."""
