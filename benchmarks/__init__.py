"""What benchmark.py measures: speed, memory, start-up and growth, each part in a process of its own."""
