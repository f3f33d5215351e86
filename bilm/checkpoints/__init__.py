"""Files of weights: bilstm.pt, classifier.pt, checkpoints of unfinished runs, and the files of the original ELMo."""
