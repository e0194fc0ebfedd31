"""Which page tells what came out of runs? `study.py` reads them, `page.py` writes it."""
