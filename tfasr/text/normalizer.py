"""The one normal form of transcripts, for training, references and hypotheses alike."""

import unicodedata


def normalise(text: str) -> str:
    """Unicode NFKC, lower case, single spaces, nothing at the ends."""
    lowered = unicodedata.normalize("NFKC", text).lower()
    # Lower case may come apart into letter and mark, which belong together again.
    return " ".join(unicodedata.normalize("NFKC", lowered).split())
