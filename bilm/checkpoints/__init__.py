"""Files with weights: bilstm.pt, classifier.pt, checkpoints of unfinished runs, and the original ELMo's files."""
