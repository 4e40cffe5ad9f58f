"""The one normal form of transcripts, for training, references and hypotheses alike."""

import unicodedata


def normalise(text: str) -> str:
    """Unicode NFKC, lower case, single spaces, nothing at the ends."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
