"""The training loop, and its two tasks: pretraining and classification. The hybrid classifier, and calibration."""
