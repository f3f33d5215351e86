"""The commands of `python -m bilm`, and the options that they share with the scripts."""
