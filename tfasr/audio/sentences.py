"""Two small grammars, commands to a voice assistant and digits, and their sentences by split."""

import itertools
from typing import Literal

import numpy as np

from tfasr.audio.utterance import SPLITS, Split
from tfasr.configs.seeds import counted_generator

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SLOTS = {
    "act": ("open", "close", "lock"),
    "colour": ("red", "green", "blue", "yellow", "purple"),
    "day": ("today", "tomorrow", "monday"),
    "digit": DIGITS,
    "device": ("light", "fan", "heater", "radio"),
    "mood": ("quiet", "happy", "slow"),
    "name": ("anna", "peter", "maria", "oliver"),
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "opening": ("door", "window", "curtain"),
    "room": ("kitchen", "bedroom", "bathroom", "garden", "office"),
    "switch": ("on", "off"),
    "unit": ("seconds", "minutes", "hours"),
}
_COMMANDS = (
    "{act} the {room} {opening} {day}",
    "call {name} in {number} {unit}",
    "call {name} {day} at {number}",
    "play {mood} music in the {room}",
    "play {mood} music for {number} {unit}",
    "remind {name} to {act} the {opening} {day}",
    "set a timer for {number} {unit}",
    "set the {room} {device} to {number}",
    "turn {switch} the {colour} {device} in the {room}",
    "turn the {room} light {colour} in {number} {unit}",
    "turn the {room} {device} {switch}",
    "turn the {room} {device} {switch} at {number}",
)
_TEMPLATES = {
    "commands": _COMMANDS,
    "digits": tuple(" ".join(["{digit}"] * length) for length in (2, 3, 4)),
}

_HELD_OUT_SHARES: dict[Split, float] = {"valid": 0.1, "test": 0.2}


class SentenceInventory:
    """A grammar's sentences, each in one split only.

    Args:
        seed: Chooses each sentence's split.
        grammar: Which.
    """

    def __init__(self, seed: int, grammar: Literal["commands", "digits"] = "commands") -> None:
        texts: dict[Split, list[str]] = {split: [] for split in SPLITS}
        weights: dict[Split, list[float]] = {split: [] for split in SPLITS}
        for template in _TEMPLATES[grammar]:
            for split, part in _divide(_sentences_of(template), seed, template).items():
                texts[split] += part
                # A template is drawn by the root of how many sentences it makes: large ones
                # do not drown small ones, and small ones do not repeat themselves too often.
                weights[split] += [len(part) ** -0.5] * len(part)
        self.texts = texts
        self._weights = {split: np.array(w) / sum(w) for split, w in weights.items()}

    def draw(self, split: Split, count: int, generator: np.random.Generator) -> list[str]:
        """Draws `count` different sentences of a split.

        Raises:
            ValueError: The split has fewer sentences.
        """
        texts = self.texts[split]
        if count > len(texts):
            raise ValueError(
                f"{split}_sentences must be at most {len(texts)}; got {split}_sentences={count}"
            )
        drawn = generator.choice(len(texts), size=count, replace=False, p=self._weights[split])
        return [texts[index] for index in drawn]


def _sentences_of(template: str) -> list[str]:
    choices = [_SLOTS[word[1:-1]] if word[0] == "{" else (word,) for word in template.split()]
    return [" ".join(words) for words in itertools.product(*choices)]


def _divide(sentences: list[str], seed: int, template: str) -> dict[Split, list[str]]:
    order = counted_generator(seed, "synthetic split", template).permutation(len(sentences))
    parts: dict[Split, list[str]] = {}
    start = 0
    for split, share in _HELD_OUT_SHARES.items():
        end = start + round(share * len(sentences))
        parts[split] = [sentences[index] for index in order[start:end]]
        start = end
    parts["train"] = [sentences[index] for index in order[start:]]
    return parts
