"""One self-contained HTML page from numbers and pictures that were made elsewhere."""
