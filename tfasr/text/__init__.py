"""One normaliser and SentencePiece; imports no TensorFlow."""
