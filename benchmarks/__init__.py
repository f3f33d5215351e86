"""Speed and memory of training, inference and the commands: `python -m benchmarks`."""
