"""Comparisons that the report shows: `python -m studies.NAME`."""
