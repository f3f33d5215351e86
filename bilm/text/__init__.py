"""From files to batches: read rows, split them, tokenise them, number the words, pad them.

readers -> ag_news, custom_dataset -> corpus -> split, tokenizer, vocabulary -> encoded_corpus -> batching
"""
