"""Export."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfasr.configs.evaluation import DecodingConfig

Form = Literal["constant", "seed", "pruned", "int8"]
LiteForm = Literal["float", "int8", "float16"]


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Which blocks of the exported model are frozen, and as what.

    Args:
        blocks: The so many most ambient blocks of the ranking.
        margin: Or all blocks whose penalty's 95 % interval ends under this share of words; 0
            goes by `blocks`.
        as_: What becomes of them. "constant": their weights are constants of the graph. "seed":
            they are reset to fresh weights, which the model draws anew whenever it is loaded; the
            files hold none of theirs. "pruned": they are left out, but for the norm that ends
            their residual path. "int8": their kernels are kept in 8 bits with a scale for each
            output channel, and turned into floats when the model is loaded.
        draw: Which fresh weights "seed" takes, by the study's numbers: 1 for its first draw; 0
            for those of step 0.
        ranking: The ranking's file; where it is not given, `study/ranking.json` of the run.
    """

    blocks: int = 0
    margin: float = 0.0
    as_: Form = "constant"
    draw: int = 1
    ranking: Path | None = None

    def __post_init__(self) -> None:
        for name in ("blocks", "draw"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"freeze.{name} must be at least 0; got {name}={getattr(self, name)}"
                )
        if not 0 <= self.margin < 1:
            raise ValueError(f"freeze.margin must be in [0, 1); got margin={self.margin}")
        if self.blocks and self.margin:
            raise ValueError(
                "blocks to freeze are chosen by freeze.blocks or by freeze.margin, not both; got "
                f"blocks={self.blocks}, margin={self.margin}"
            )
        if self.draw != 1 and self.as_ != "seed":
            raise ValueError(
                f"freeze.draw is for freeze.as seed; got draw={self.draw}, as={self.as_}"
            )

    @property
    def asked(self) -> bool:
        """Whether any block is to be frozen."""
        return bool(self.blocks or self.margin)


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """Training that lets the other blocks make up for the frozen ones, before the export.

    Args:
        steps: How long; 0 for none.
        by: "central": steps on the training split of `data`, with the losses and batches of the
            run. "federated": rounds of federated averaging on `data`'s clients, by speaker, as
            `tfasr federate` has them; the frozen blocks are sent to the clients, which neither
            train them nor send them back. Blocks that are left out can't be recovered so.
        peak: With "central", the learning rate at the end of the warm-up; far below the run's,
            for the weights are near where they should be.
        warmup: With "central", steps of rising learning rate.
        clients: With "federated", clients of a round.
        client_learning_rate: With "federated", of the clients' SGD.
    """

    steps: int = 0
    by: Literal["central", "federated"] = "central"
    peak: float = 1e-4
    warmup: int = 20
    clients: int = 8
    client_learning_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.clients < 1 or self.client_learning_rate <= 0:
            raise ValueError(
                "recover.clients must be at least 1 and recover.client_learning_rate positive; "
                f"got clients={self.clients}, client_learning_rate={self.client_learning_rate}"
            )
        if self.steps < 0:
            raise ValueError(f"recover.steps must be at least 0; got steps={self.steps}")
        if self.peak <= 0 or self.warmup < 1:
            raise ValueError(
                "recover.peak must be positive and recover.warmup at least 1; "
                f"got peak={self.peak}, warmup={self.warmup}"
            )


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes a SavedModel that TensorFlow Serving loads as it is.

    Args:
        run: A trained run.
        out: The model's folder, such as saved_models/NAME; a new version is made in it.
        check: In place of these two, an exported model, or one version of it, to check: its files
            against their hashes, and that every operation is one of stock TensorFlow's.
        freeze: Which blocks are frozen, and as what.
        recover: Training of the other blocks with the frozen ones fixed, before the export.
        lite: LiteRT models to write too, into the version's `lite/`: "float", "int8" (kernels of
            8 bits, dynamic range), "float16". They take waveforms and give tokens.
        onnx: Write an ONNX model too, `onnx/model.onnx`, which takes waveforms and gives tokens;
            needs `pip install 'tfasr[onnx]'`.
        parity: Utterances of `data` that the checkpoint, the SavedModel, the LiteRT and ONNX
            models and the server all hear: OUT/parity-VERSION.json has error rates and every text
            that differs; 0 for none.
        sweep: Try every form for every number of the ranking's most ambient blocks, print size,
            load time, real-time factor and error rate of each, write them to OUT/sweep.json and
            draw them as OUT/sweep.png, and write the smallest one within `max_loss` as the next
            version.
        counts: Numbers of blocks that a sweep tries; empty means all.
        max_loss: What the word error rate of the one that a sweep writes may be above that with
            nothing frozen, as a share of words.
        data: A folder made by `tfasr prepare`, for `sweep`, `parity` and `recover`.
        split: Which utterances a sweep and parity take.
        domains: Domains to keep; empty means all.
        decoder: How the model decodes whole utterances: "greedy", "prefix_beam", "rescoring" or
            "transducer", without a language model. A stream's text is always the greedy one.
        chunk: Frames of 40 ms that a streaming model hears together, also of whole utterances;
            without it, the first of those that it was trained with.
        step: The run's checkpoint; 0 means the one with the lowest validation error rate.
    """

    run: Path | None = None
    out: Path | None = None
    check: Path | None = None
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    recover: RecoveryConfig = field(default_factory=RecoveryConfig)
    lite: tuple[LiteForm, ...] = ()
    onnx: bool = False
    parity: int = 0
    sweep: bool = False
    counts: tuple[int, ...] = ()
    max_loss: float = 0.01
    data: Path | None = None
    split: Literal["train", "valid", "test"] = "test"
    domains: tuple[str, ...] = ()
    decoder: DecodingConfig = field(default_factory=DecodingConfig)
    chunk: int | None = None
    step: int = 0

    def __post_init__(self) -> None:
        given = [self.run is not None, self.out is not None]
        if self.check is not None and any(given):
            raise ValueError("--check takes an exported model, and neither --run nor --out")
        if self.check is None and not all(given):
            raise ValueError("--run and --out must be given, or --check for an exported model")
        decoder = self.decoder
        if decoder.kind == "attention":
            raise ValueError(
                "an exported model decodes by greedy, prefix_beam, rescoring or transducer; "
                "got decoder.kind=attention: choose rescoring for a model with decoders"
            )
        for name in ("lm", "nbest", "tune"):
            if name in decoder.changed:
                raise ValueError(
                    f"decoder.{name} is for `tfasr evaluate`, an exported model gives its best "
                    f"hypothesis without one; got {name}={getattr(decoder, name)}"
                )
        if self.chunk is not None and self.chunk < 0:
            raise ValueError(f"chunk must be at least 0; got chunk={self.chunk}")
        self._check_sweep()
        if self.recover.by == "federated" and self.freeze.as_ == "pruned":
            raise ValueError(
                "recover.by=federated trains whole models, so blocks can't be left out; "
                "got freeze.as=pruned: choose recover.by=central"
            )

    def _check_sweep(self) -> None:
        needing = {"sweep": self.sweep, "parity": self.parity, "recover.steps": self.recover.steps}
        for name, asked in needing.items():
            if asked and self.data is None:
                raise ValueError(f"--{name} needs utterances, so --data must be given")
        if self.parity < 0:
            raise ValueError(f"parity must be at least 0; got parity={self.parity}")
        if self.recover.steps and not self.freeze.asked:
            raise ValueError(
                "a recovery makes up for frozen blocks, so freeze.blocks or freeze.margin must "
                f"be given; got recover.steps={self.recover.steps}"
            )
        if self.sweep and (self.freeze.asked or self.freeze.as_ != "constant"):
            raise ValueError(
                "a sweep tries every form and number of blocks, so neither freeze.blocks, "
                "freeze.margin nor freeze.as can be given; choose numbers by --counts"
            )
        if min(self.counts, default=0) < 0:
            raise ValueError(f"counts must be at least 0; got counts={self.counts}")
        if not 0 <= self.max_loss < 1:
            raise ValueError(f"max_loss must be in [0, 1); got max_loss={self.max_loss}")
