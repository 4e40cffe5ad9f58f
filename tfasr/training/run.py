"""The folder of a run: what made the model, its weights, and what it needs to hear and write."""

import shutil
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import tensorflow as tf

from tfasr.artifacts.files import atomic_path, read_json, sha256_of, write_json, write_text
from tfasr.configs.distribution import DistributionConfig
from tfasr.configs.features import FbankConfig
from tfasr.configs.loading import from_mapping, read_yaml, to_mapping, to_yaml
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.training import AveragingConfig, Precision, TrainConfig
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.search import Recogniser
from tfasr.features.extractor import FeatureExtractor, FeatureStatistics
from tfasr.models.acoustic_model import AcousticModel
from tfasr.models.building import build_model
from tfasr.models.initialization import initialize
from tfasr.models.layout import Layout
from tfasr.text.tokenizer import Tokenizer
from tfasr.training.checkpoints import Checkpoints


class Run:
    """A run's folder.

    Args:
        folder: The folder; `Run.create` makes one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, config: TrainConfig, data: PreparedData) -> "Run":
        """Makes the folder of a run, or checks that the one that is there is the same run's.

        Args:
            config: The run; its mel bins and vocabulary are replaced by the data's.
            data: What it is trained on.

        Raises:
            ValueError: The folder holds a run with other settings; names the first of them.
        """
        run = cls(config.run)
        config = replace(
            config,
            # Any number of hosts trains the same run.
            distribution=DistributionConfig(),
            model=replace(
                config.model,
                num_mels=data.fbank.num_mels,
                vocabulary=Tokenizer(data.tokenizer).vocabulary,
            ),
        )
        if run.exists:
            run._refuse_other_settings(config)
            if sha256_of(data.tokenizer) != sha256_of(run.folder / "tokenizer.model"):
                raise ValueError(
                    f"{data.folder}: its tokenizer must be that of {run.folder}; got another"
                )
            # What may change, such as more steps, is what would repeat the run from now on.
            config = replace(config, steps=max(config.steps, run.config.steps))
            if config != run.config:
                run._write_config(config)
            return cls(config.run)
        batching = config.batching
        durations = data.durations("train", data.domains_to_train_on(config.domains))
        kept = [d for d in durations if batching.min_seconds <= d <= batching.max_seconds]
        front_end = {
            "fbank": asdict(data.fbank),
            "statistics": asdict(data.statistics),
            "longest_seconds": max(kept, default=batching.max_seconds),
        }
        write_json(run.folder / "features.json", front_end)
        with atomic_path(run.folder / "tokenizer.model") as staged:
            shutil.copyfile(data.tokenizer, staged)
        run._write_config(config)
        return run

    def _write_config(self, config: TrainConfig) -> None:
        write_text(self.folder / "config.yaml", to_yaml({"train": to_mapping(config)}))

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run; `config.yaml` is written last."""
        return (self.folder / "config.yaml").is_file()

    def _refuse_other_settings(self, config: TrainConfig) -> None:
        before, now = _flat(to_mapping(self.config)), _flat(to_mapping(config))
        # More steps only prolong a run; where its folders lie changes nothing in it.
        movable = {"steps", "data", "run", "checkpoint_every", "keep_every"}
        movable |= {"averaging.of", "averaging.count"}
        for name in before.keys() | now.keys():
            if name not in movable and before.get(name) != now.get(name):
                raise ValueError(
                    f"{self.folder}: holds a run with other settings; got {name}={now.get(name)}, "
                    f"there it is {before.get(name)}. Choose another --run or remove the folder"
                )

    @cached_property
    def config(self) -> TrainConfig:
        """The settings that repeat the run.

        Raises:
            ValueError: The folder holds no run.
        """
        path = self.folder / "config.yaml"
        if not self.exists:
            raise ValueError(f"{self.folder}: must be a run's folder, made by `tfasr train`")
        return from_mapping(TrainConfig, read_yaml(path).get("train", {}), str(path))

    @property
    def model_config(self) -> ModelConfig:
        """The model."""
        return self.config.model

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The features that the model was trained on."""
        values = read_json(self.folder / "features.json")
        statistics = {name: tuple(bins) for name, bins in values["statistics"].items()}
        return FeatureExtractor(FbankConfig(**values["fbank"]), FeatureStatistics(**statistics))

    @property
    def longest_seconds(self) -> float:
        """How long the longest utterance is that it is trained on."""
        values = read_json(self.folder / "features.json")
        return float(values.get("longest_seconds", self.config.batching.max_seconds))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokens that the model was trained on."""
        return Tokenizer(self.folder / "tokenizer.model")

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints, of which those are kept that its averaging or a study takes."""
        averaging = self.config.averaging if self.exists else AveragingConfig()
        keep_every = self.config.keep_every if self.exists else 0
        counts = {
            "none": (2, 0),
            "last": (max(2, averaging.count), 0),
            "best": (2, averaging.count),
        }
        keep, keep_best = counts[averaging.of]
        return Checkpoints(self.folder / "checkpoints", keep, keep_best, keep_every)

    @property
    def origin_hash(self) -> str:
        """Hash of the weights that a federated run started from; "" for any other run."""
        path = self.folder / "origin.json"
        return str(read_json(path)["model_hash"]) if path.is_file() else ""

    def initial_model(self, precision: Precision = "float32") -> AcousticModel:
        """Builds the model with the weights of step 0, rebuilt from the seed."""
        model = build_model(self.model_config, precision=precision)
        initialize(Layout(model), self.config.seed)
        return model

    def trained_model(self, step: int = 0, chunk: int | None = None) -> AcousticModel:
        """Builds the model with the weights of a checkpoint.

        Args:
            step: Its step; 0 means the average of several, where training has made one, or
                else the one with the lowest validation error rate.
            chunk: Frames that a streaming model is to hear together, 0 for whole utterances;
                None for the first of those that it was trained with.

        Raises:
            ValueError: There is no such checkpoint, or the model can't hear such chunks.
        """
        config = self.model_config
        if chunk is not None:
            config = replace(config, encoder=self._with_chunk(config.encoder, chunk))
        model = build_model(config)
        checkpoint, checkpoints = tf.train.Checkpoint(model=model), self.checkpoints
        if not step and checkpoints.average.is_dir():
            checkpoints.restore_average(checkpoint)
        else:
            checkpoints.restore(checkpoint, step or checkpoints.best_step())
        return model

    def recogniser(self, model: AcousticModel) -> Recogniser:
        """Joins a model of the run with what its tokens and frames stand for."""
        fbank = self.extractor.fbank
        return Recogniser(
            name=str(self.folder),
            model=model,
            pieces=self.tokenizer.pieces,
            frame_shift=fbank.frame_shift / fbank.sample_rate,
        )

    def _with_chunk(self, encoder: EncoderConfig, chunk: int) -> EncoderConfig:
        if not encoder.streaming.chunks:
            raise ValueError(
                f"{self.folder}: a chunk needs a model that streams, and this one hears whole "
                f"utterances; got chunk={chunk}"
            )
        return replace(encoder, streaming=replace(encoder.streaming, chunks=(chunk,)))

    def average_checkpoints(self) -> list[int]:
        """Averages checkpoints as the configuration says, and makes that the run's model.

        Returns:
            Their steps; none where nothing is to be averaged.
        """
        averaging, checkpoints = self.config.averaging, self.checkpoints
        if averaging.of == "none":
            return []
        steps = checkpoints.steps()[-averaging.count :]
        if averaging.of == "best":
            steps = checkpoints.lowest_losses(averaging.count)
        checkpoints.write_average(build_model(self.model_config), steps)
        return steps

    def check_data(self, data: PreparedData) -> None:
        """Refuses data whose audio the model can't read.

        Raises:
            ValueError: The sample rates differ.
        """
        ours, theirs = self.extractor.fbank.sample_rate, data.index["sample_rate"]
        if ours != theirs:
            raise ValueError(
                f"{data.folder}: must have the run's sample rate of {ours} Hz; got {theirs} Hz"
            )


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat.update({f"{prefix}{name}": value} if inner is None else inner)
    return flat
