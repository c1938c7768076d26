"""Examples, and who gets them."""
