"""Use of trained models: vectors, classes, words, neighbours, and a page to try the classifier in a browser."""
