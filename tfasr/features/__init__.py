"""Filterbank, normalisation and augmentation."""
