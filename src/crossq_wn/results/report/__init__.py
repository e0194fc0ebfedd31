"""Reports as one HTML page: `contents.py` gathers what they tell, `page.py` writes them."""
