"""Runs the command line as `python -m crossq_wn`."""

from crossq_wn.cli import main

if __name__ == "__main__":
    main()
