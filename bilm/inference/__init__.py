"""Trained models as a library: vectors, classes, words, neighbours, and the page that shows them."""
