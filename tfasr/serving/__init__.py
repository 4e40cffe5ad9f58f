"""Serving an exported model; needs a SavedModel and nothing else of ours but audio decoding."""
