"""The models of the paper (Peters et al. 2018). Suggested reading order:

token_layer, char_cnn   words -> vectors without context
lstm                    the stack of LSTMs of one direction
softmax                 states -> probabilities of words
language_model          these together: the bidirectional language model
encoder                 what a classifier requires of the model that it reads
scalar_mix              gamma * sum_j lambda_j e_j, equation 1, and the learned function
classifier              layers -> classes
adversarial             the loss of perturbed token vectors, for training
layers                  dropout and pooling
static_encoder          a table of word vectors instead of the language model, for comparisons
"""
