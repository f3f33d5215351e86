"""Models that ELMo is compared with: TF-IDF, fastText, word vectors, self-training."""
