"""From files to batches: read rows, set aside validation rows, tokenise, map words to ids, and pad.

readers -> ag_news, custom_dataset -> corpus -> split, tokenizer, vocabulary -> encoded_corpus -> batching

Beside these, ngrams computes TF-IDF features of words, characters and clusters of tokens; text_rules says which
characters are blanks or join words, and csv_lines repairs lines of CSV files.
"""
