"""ELMo (Peters et al. 2018) from scratch: a bidirectional language model and what is built on its layers."""
