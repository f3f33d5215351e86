"""The training loop, and the two tasks that it is given: pretraining and classification."""
