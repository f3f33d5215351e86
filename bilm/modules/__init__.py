"""The models of the paper (Peters et al. 2018), and two others. Suggested reading order:

token_layer, char_cnn   words -> vectors without context
lstm                    the stack of LSTMs of one direction
softmax                 states -> probabilities of words
language_model          these together: the bidirectional language model
encoder                 what a classifier requires of the model that it reads
scalar_mix              gamma * sum_j lambda_j e_j, equation 1, and the learned function
classifier              layers -> classes
layers                  dropout and pooling
token_clusters          layers -> clusters of tokens
hybrid                  layers and TF-IDF features of words -> classes
static_encoder          a table of word vectors instead of the language model, for comparisons
"""
