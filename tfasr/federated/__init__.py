"""TensorFlow Federated, with sub-models sized by the layer ranking."""
