"""Corpora, manifests and decoded audio; imports no TensorFlow."""
