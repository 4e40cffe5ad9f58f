"""Every setting, as frozen dataclasses; imports no TensorFlow."""
