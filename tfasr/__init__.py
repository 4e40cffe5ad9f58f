"""Speech recognition in Keras, from recorded speech to served text."""
