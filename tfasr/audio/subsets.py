"""What the parts of a corpus are for, and that they are apart."""

import re
from collections.abc import Mapping, Set
from itertools import combinations

from tfasr.audio.utterance import Split

_WORDS: tuple[tuple[Split, str], ...] = (
    ("train", r"train|validated"),
    ("valid", r"dev|valid|val\d*$"),
    ("test", r"test|eval"),
)


def split_of_subset(name: str) -> Split:
    """Reads from the name of a subset whether it trains, validates or tests.

    Of the words between "-", "_" and ".", the last that begins with "train", "dev", "valid",
    "test" or "eval" decides: `train-clean-100`, `train_nodev` and `cv_train` train, `train_dev`
    and `test_dev93` validate, `test_other` and `eval2` test. `validated`, which is Common
    Voice's word for all that was checked, trains.

    Raises:
        ValueError: No word of the name tells.
    """
    for word in reversed(re.split(r"[-_.]", name.lower())):
        for split, pattern in _WORDS:
            if re.match(pattern, word):
                return split
    raise ValueError(
        "the name of a subset must tell what it is for, by a word that begins with train, dev, "
        f"valid, test or eval; got {name} (name the others in --subsets to leave it out, or "
        "link it under a name that tells)"
    )


def require_apart(subsets: Mapping[str, Set[str]]) -> None:
    """Refuses subsets of which one is for the most part in another.

    Recipes keep excerpts beside what they are taken from. Taking both would train twice on the
    same utterances, or train on what is to test.

    Args:
        subsets: The utterance ids of each, by its name.

    Raises:
        ValueError: More than half of the ids of one are in another, too.
    """
    for (name, ids), (other, other_ids) in combinations(subsets.items(), 2):
        shared = ids & other_ids
        smaller = min(len(ids), len(other_ids))
        if 2 * len(shared) > smaller:
            raise ValueError(
                f"subsets must not hold the same utterances; {name} and {other} share "
                f"{len(shared)} of {smaller}, such as {min(shared)} (name those to take in "
                f"--subsets; there are {', '.join(subsets)})"
            )
