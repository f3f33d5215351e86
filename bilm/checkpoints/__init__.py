"""Files of weights: bilstm.pt, classifier.pt, ensembles, checkpoints of unfinished runs, and the original ELMo's."""
