"""Texts to tokens, without PyTorch: released models' tokenizers and the concept tokenizer."""
