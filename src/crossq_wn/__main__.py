"""`python -m crossq_wn` is the command line."""

from crossq_wn.cli import main

if __name__ == "__main__":
    main()
