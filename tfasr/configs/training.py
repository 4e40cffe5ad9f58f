"""Central training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfasr.configs.data import BatchConfig
from tfasr.configs.distribution import DistributionConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.model import ModelConfig
from tfasr.configs.objective import JointObjective

# What is computed in; weights are float32 with either.
Precision = Literal["float32", "mixed_bfloat16"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam with the Noam schedule. The betas are those of Gulati et al. (2020), section 3.2.

    Args:
        peak: Learning rate at the end of the warm-up.
        warmup: Steps of rising learning rate.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
        weight_decay: Share of a kernel taken off at each step, times the learning rate.
        clip_norm: Largest global norm of the gradient.
        accumulate: Batches whose gradients make one step; several hosts share them.
        parallel: Parts of a batch that are computed side by side, each operation on one thread;
            as many as there are processors keep all of them busy, where an operation alone does
            not. Each holds gradients of its own, and draws dropout of its own. Norms of batches
            can't be parted.
        average: Decay of the moving average of the weights, in [0, 1). The average is what is
            validated, saved and used; it swings less than the weights do. 0 takes the weights.
    """

    peak: float = 2e-3
    warmup: int = 10_000
    beta_1: float = 0.9
    beta_2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    accumulate: int = 1
    parallel: int = 1
    average: float = 0.999

    def __post_init__(self) -> None:
        if self.peak <= 0 or self.warmup < 1:
            raise ValueError(
                "peak must be positive and warmup at least 1; "
                f"got peak={self.peak}, warmup={self.warmup}"
            )
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1; got accumulate={self.accumulate}")
        if self.parallel < 1:
            raise ValueError(f"parallel must be at least 1; got parallel={self.parallel}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be in [0, 1); got average={self.average}")


@dataclass(frozen=True, kw_only=True)
class AveragingConfig:
    """Averages checkpoints when training is done.

    The Deep Sparse Conformer's models are the 30 best (section 4.1).

    Args:
        of: "best" averages the checkpoints with the lowest validation loss, "last" the last
            ones; "none" leaves it.
        count: How many of them; they are kept on disk.
    """

    of: Literal["none", "best", "last"] = "none"
    count: int = 30

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1; got count={self.count}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a Conformer with CTC and writes a run.

    Args:
        data: A folder made by `tfasr prepare`.
        run: The run's folder. An unfinished run is resumed, a finished one is left alone.
        model: The Conformer. Its mel bins and vocabulary are taken from the data.
        augmentation: Of waveforms.
        masking: Of features.
        batching: Of utterances.
        optimizer: Adam and its schedule.
        objective: Weights of CTC and of the decoder, for a model that has one.
        averaging: Of checkpoints, at the end.
        distribution: Hosts that train the run together.
        domains: Domains to train on; empty means all that the data does not withhold.
        valid_domains: Domains to validate on; empty means those trained on.
        precision: "mixed_bfloat16" computes in bfloat16 and keeps float32 weights.
        steps: Optimizer steps.
        valid_every: Steps between validations, each followed by a checkpoint.
        checkpoint_every: Steps between checkpoints; 0 means only after validations.
        keep_every: Checkpoints of steps that this divides stay for good, for a study of the
            training; 0 means that none need.
        seed: Decides the first weights and every later draw.
    """

    data: Path
    run: Path
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    masking: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    batching: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: JointObjective = field(default_factory=JointObjective)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    distribution: DistributionConfig = field(default_factory=DistributionConfig)
    domains: tuple[str, ...] = ()
    valid_domains: tuple[str, ...] = ()
    precision: Precision = "float32"
    steps: int = 100_000
    valid_every: int = 1000
    checkpoint_every: int = 0
    keep_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.valid_every < 1 or self.checkpoint_every < 0:
            raise ValueError(
                "steps and valid_every must be at least 1 and checkpoint_every at least 0; "
                f"got steps={self.steps}, valid_every={self.valid_every}, "
                f"checkpoint_every={self.checkpoint_every}"
            )
        hosts = len(self.distribution.hosts)
        if hosts and self.optimizer.accumulate % hosts:
            raise ValueError(
                "optimizer.accumulate must be a multiple of the hosts, which share a step's "
                f"batches; got optimizer.accumulate={self.optimizer.accumulate} and {hosts} hosts"
            )
        if hosts > 1 and self.batching.service:
            raise ValueError(
                "batching.service must be empty where several hosts train, since it deals out "
                f"batches in no fixed order; got batching.service={self.batching.service}"
            )
        if self.keep_every < 0 or self.keep_every % (self.checkpoint_every or self.valid_every):
            raise ValueError(
                "keep_every must be a multiple of the steps between checkpoints, or 0; got "
                f"keep_every={self.keep_every}, checkpoint_every={self.checkpoint_every}, "
                f"valid_every={self.valid_every}"
            )
