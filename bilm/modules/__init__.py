"""The models of the paper (Peters et al. 2018), and nothing else. To be read in this order:

token_layer, char_cnn   words -> vectors without context
lstm                    the stack of LSTMs of one direction
softmax                 states -> probabilities of words
language_model          all of it as the bidirectional language model
scalar_mix              gamma * sum_j lambda_j e_j, equation 1, and the learned function
classifier              layers -> classes
layers                  dropout and pooling
static_encoder          a table of word vectors in place of the language model, for comparisons
"""
