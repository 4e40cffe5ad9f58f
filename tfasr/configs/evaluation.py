"""Evaluation, and how hypotheses are searched in it."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

DecoderKind = Literal["greedy", "prefix_beam", "attention", "rescoring", "transducer"]

_LISTS = ("beam", "lm", "lm_weight", "insertion_bonus", "nbest", "tune")
# The options that each kind makes use of.
_OPTIONS: dict[DecoderKind, tuple[str, ...]] = {
    "greedy": (),
    "prefix_beam": ("token_beam", *_LISTS),
    "attention": _LISTS,
    "rescoring": ("token_beam", "ctc_weight", "reverse_weight", *_LISTS),
    "transducer": ("token_beam", "max_symbols", *_LISTS),
}


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How hypotheses are found and ordered.

    A hypothesis scores `acoustic + lm_weight * lm + insertion_bonus * tokens`, in natural
    logarithms. Beam and `reverse_weight` are those of Wu (2022), "Deep Sparse Conformer", section
    4.1; `ctc_weight` is that of WeNet's AISHELL recipe.

    Args:
        kind: "greedy" takes the best symbol at each turn, of the transducer or, without one, of
            CTC. "prefix_beam" searches the sequences that
            CTC finds most probable, with the language model in the search. "attention" searches
            with the decoder that reads from left to right. "rescoring" takes CTC's hypotheses and
            orders them by `(1 - reverse_weight) * left + reverse_weight * right + ctc_weight *
            ctc`. These two add the language model to what the search has found. "transducer"
            searches with the transducer, with the language model in the search.
        beam: Hypotheses kept in a search.
        token_beam: Tokens that a search of CTC or of a transducer tries in each frame.
        max_symbols: Tokens that a transducer may emit in one frame.
        lm: An ARPA language model over tokens, made by `tfasr lm`.
        lm_weight: Of the language model.
        insertion_bonus: For each token.
        ctc_weight: Of CTC in rescoring.
        reverse_weight: Of the decoder that reads from right to left, in rescoring; from 0 to 1.
        nbest: Hypotheses that `hypotheses.jsonl` lists of each utterance, best first, with
            scores and the seconds at which words start and end; 0 lists none.
        tune: Choose the weights and the bonus that make the fewest word errors on the
            validation split.
    """

    kind: DecoderKind = "greedy"
    beam: int = 10
    token_beam: int = 10
    max_symbols: int = 3
    lm: Path | None = None
    lm_weight: float = 0.3
    insertion_bonus: float = 0.0
    ctc_weight: float = 0.5
    reverse_weight: float = 0.3
    nbest: int = 0
    tune: bool = False

    def __post_init__(self) -> None:
        for name in ("beam", "token_beam", "max_symbols"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        for name in ("lm_weight", "ctc_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and not negative; got {name}={getattr(self, name)}"
                )
        if not math.isfinite(self.insertion_bonus):
            raise ValueError(
                f"insertion_bonus must be finite; got insertion_bonus={self.insertion_bonus}"
            )
        if not 0 <= self.reverse_weight <= 1:
            raise ValueError(
                f"reverse_weight must be from 0 to 1; got reverse_weight={self.reverse_weight}"
            )
        self._check_use()
        if not 0 <= self.nbest <= self.beam:
            raise ValueError(
                f"nbest must be from 0 to beam; got nbest={self.nbest}, beam={self.beam}"
            )

    def _check_use(self) -> None:
        for name in self.changed:
            if name != "kind" and name not in _OPTIONS[self.kind]:
                users = ", ".join(kind for kind in _OPTIONS if name in _OPTIONS[kind])
                raise ValueError(
                    f"decoder.{name} is for decoder.kind {users}; "
                    f"got kind={self.kind}, {name}={getattr(self, name)}"
                )
        if self.lm is None and "lm_weight" in self.changed:
            raise ValueError(f"lm_weight needs decoder.lm; got lm_weight={self.lm_weight}")

    @property
    def changed(self) -> list[str]:
        """Names of the options that are not the defaults."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]

    def to_json(self) -> dict[str, Any]:
        """Returns the kind and what it makes use of, as a JSON object."""
        used = [name for name in _OPTIONS[self.kind] if name not in ("nbest", "tune")]
        if self.lm is None:
            used = [name for name in used if name not in ("lm", "lm_weight")]
        values = {name: getattr(self, name) for name in ("kind", *used)}
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in values.items()
        }


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Word and character error rates with 95 % intervals.

    Args:
        data: A folder made by `tfasr prepare`.
        run: A run to evaluate, or several (A,B or given repeatedly), whose scores are averaged;
            or give `model`.
        model: An exported model to evaluate; or give `run`.
        split: Which utterances.
        domains: Domains to evaluate on; empty means all.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
        chunk: Frames of 40 ms that a streaming model hears together, 0 for whole utterances;
            without it, the first of those that it was trained with.
        decoder: How a run's hypotheses are found.
        out: Folder for `evaluation.json` and `hypotheses.jsonl`; where it is not given, a
            folder named by data, split and decoder in the (first) run's or the model's folder.
    """

    data: Path
    run: tuple[Path, ...] = ()
    model: Path | None = None
    split: Literal["train", "valid", "test"] = "test"
    domains: tuple[str, ...] = ()
    step: int = 0
    chunk: int | None = None
    decoder: DecodingConfig = field(default_factory=DecodingConfig)
    out: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.run) == (self.model is not None):
            raise ValueError("one of --run and --model must be given, not both")
        if self.model is not None and self.decoder.changed:
            name = self.decoder.changed[0]
            raise ValueError(
                "an exported model decodes by itself, so decoder options need --run; "
                f"got decoder.{name}={getattr(self.decoder, name)}"
            )
        if self.chunk is not None and (self.model is not None or self.chunk < 0):
            raise ValueError(
                "chunk must be at least 0, and is for --run: an exported model has its own; "
                f"got chunk={self.chunk}"
            )
        if repeated := [run for run in self.run if self.run.count(run) > 1]:
            raise ValueError(f"runs of an ensemble must differ; got run={repeated[0]} repeatedly")
        if len(self.run) > 1 and self.decoder.kind == "greedy":
            raise ValueError(
                f"an ensemble combines n-best lists, which decoder.kind=greedy has not; got "
                f"{len(self.run)} runs: choose prefix_beam, attention or rescoring"
            )
        if self.decoder.tune and self.split == "valid":
            raise ValueError(
                "decoder.tune chooses weights on the validation split, so another one must be "
                "evaluated; got split=valid"
            )
