"""Speed and memory of everything: `python -m benchmarks`."""
