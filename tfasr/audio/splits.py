"""Another division of a corpus into training, validation and test."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tfasr.audio.listing import text_lines
from tfasr.audio.utterance import SPLITS, Corpus, CorpusError, Split, Utterance
from tfasr.configs.corpora import SplitConfig
from tfasr.configs.seeds import counted_generator, counted_seed


class Divided:
    """A corpus whose utterances are divided as `SplitConfig` says.

    Args:
        corpus: Lists the utterances and reads their audio.
        config: The division.
    """

    def __init__(self, corpus: Corpus, config: SplitConfig) -> None:
        self.corpus = corpus
        self.config = config

    def utterances(self) -> tuple[list[Utterance], list[CorpusError]]:
        """Lists the corpus's utterances, in its order, each in its split.

        A line of a list that names nobody is among the errors.

        Raises:
            ValueError: A share leaves nobody to train on, nobody says who speaks where
                speakers are drawn, or lists put a speaker or an utterance on two sides.
        """
        listed, errors = self.corpus.utterances()
        match self.config.by:
            case "corpus":
                return _with_validation(listed, self.config), errors
            case "speaker":
                return _by_draw(listed, self.config), errors
            case "hash":
                return _by_hash(listed, self.config), errors
            case "list":
                divided, list_errors = _by_list(listed, self.config)
                return divided, errors + list_errors

    def samples(self, utterances: Sequence[Utterance]) -> Iterator[NDArray[np.int16] | CorpusError]:
        return self.corpus.samples(utterances)


def shared_speakers(utterances: Iterable[Utterance]) -> list[str]:
    """Names the speakers who are in more than one split, sorted; "" is nobody."""
    splits = _splits_of_speakers(utterances)
    return sorted(speaker for speaker, names in splits.items() if len(names) > 1)


def _splits_of_speakers(utterances: Iterable[Utterance]) -> dict[str, set[Split]]:
    splits: dict[str, set[Split]] = {}
    for utterance in utterances:
        if utterance.speaker:
            splits.setdefault(utterance.speaker, set()).add(utterance.split)
    return splits


def _moved(
    utterances: Sequence[Utterance], split_of: Callable[[Utterance], Split]
) -> list[Utterance]:
    splits = map(split_of, utterances)
    return [
        utterance if utterance.split == split else replace(utterance, split=split)
        for utterance, split in zip(utterances, splits, strict=True)
    ]


def _with_validation(utterances: list[Utterance], config: SplitConfig) -> list[Utterance]:
    """Sets training speakers aside where a corpus of several has nothing to validate on."""
    speakers = sorted({u.speaker for u in utterances if u.split == "train" and u.speaker})
    if any(u.split == "valid" for u in utterances) or len(speakers) < 2:
        return utterances
    aside = _draw(speakers, config, "valid")

    def split_of(utterance: Utterance) -> Split:
        trains = utterance.split == "train"
        return aside.get(utterance.speaker, "train") if trains else utterance.split

    return _moved(utterances, split_of)


def _by_draw(utterances: list[Utterance], config: SplitConfig) -> list[Utterance]:
    nobody = [] if config.shared_speakers else [u for u in utterances if not u.speaker]
    if nobody:
        raise ValueError(
            f"{nobody[0].origin}: splits by speaker need to know who speaks; got {len(nobody)} "
            "utterances without a speaker (--splits.by hash divides those by their ids, "
            "--splits.shared_speakers true all)"
        )
    units = sorted({_unit(utterance, config) for utterance in utterances})
    drawn = _draw(units, config, "test", "valid")
    return _moved(utterances, lambda utterance: drawn.get(_unit(utterance, config), "train"))


def _draw(units: Sequence[str], config: SplitConfig, *splits: Split) -> dict[str, Split]:
    """Draws each split's share of sorted speakers or ids; at least one unless it is 0."""
    shares = {"valid": config.valid_share, "test": config.test_share}
    counts = {split: max(1, round(shares[split] * len(units))) for split in splits if shares[split]}
    if not units:
        return {}
    if sum(counts.values()) >= len(units):
        settings = " and ".join(f"splits.{split}_share={shares[split]}" for split in counts)
        raise ValueError(
            "shares must leave a speaker or utterance to train on, or be 0; "
            f"got {settings} of {len(units)}"
        )
    order = iter(counted_generator(config.seed, "splits", "draw").permutation(len(units)))
    return {units[next(order)]: split for split, count in counts.items() for _ in range(count)}


def _by_hash(utterances: list[Utterance], config: SplitConfig) -> list[Utterance]:
    splits: dict[str, Split] = {}
    for unit in {_unit(utterance, config) for utterance in utterances}:
        # From both ends, so that a larger share of one takes from training alone.
        place = counted_seed(config.seed, "splits", "hash", unit)[0] / 2**31
        if place < config.test_share:
            splits[unit] = "test"
        elif place >= 1 - config.valid_share:
            splits[unit] = "valid"
    return _moved(utterances, lambda utterance: splits.get(_unit(utterance, config), "train"))


def _unit(utterance: Utterance, config: SplitConfig) -> str:
    """What stays together: a speaker, or an utterance of nobody."""
    if config.shared_speakers or not utterance.speaker:
        return f"utterance {utterance.utterance_id}"
    return f"speaker {utterance.speaker}"


def _by_list(
    utterances: list[Utterance], config: SplitConfig
) -> tuple[list[Utterance], list[CorpusError]]:
    """Divides by lists, and names the lines of them that are nobody's."""
    known = {u.utterance_id for u in utterances} | {u.speaker for u in utterances}
    lists: dict[Split, Path | None] = {"valid": config.valid_list, "test": config.test_list}
    names: dict[Split, set[str]] = {}
    errors = []
    for split, path in lists.items():
        names[split] = set()
        for origin, name in _names(path, f"{split}_list") if path else ():
            if isinstance(name, CorpusError):
                errors.append(name)
            elif name in known:
                names[split].add(name)
            else:
                errors.append(
                    CorpusError(f"{origin}: must be an id or a speaker of the corpus; got {name}")
                )
    divided = _moved(utterances, lambda utterance: _listed_split(utterance, names))
    if not config.shared_speakers:
        _refuse_shared_speakers(divided)
    return divided, errors


def _names(path: Path, setting: str) -> Iterator[tuple[str, str | CorpusError]]:
    if not path.is_file():
        raise ValueError(f"splits.{setting} must be a file; got splits.{setting}={path}")
    for number, line in text_lines(path):
        yield f"{path}:{number}", line


def _listed_split(utterance: Utterance, names: dict[Split, set[str]]) -> Split:
    own = {utterance.utterance_id, utterance.speaker}
    found = [split for split in names if not own.isdisjoint(names[split])]
    if len(found) > 1:
        raise ValueError(
            f"{utterance.origin}: an utterance must be in one of splits.valid_list and "
            f"splits.test_list; got {utterance.utterance_id} of speaker "
            f"{utterance.speaker or 'unknown'} in both"
        )
    return found[0] if found else "train"


def _refuse_shared_speakers(utterances: Sequence[Utterance]) -> None:
    shared = shared_speakers(utterances)
    if shared:
        sides = _splits_of_speakers(utterances)[shared[0]]
        raise ValueError(
            f"no speaker may be on two sides; got speaker {shared[0]} in "
            f"{' and '.join(split for split in SPLITS if split in sides)}, and "
            f"{len(shared) - 1} more such (--splits.shared_speakers true allows it)"
        )
