"""Federated training with smaller client models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfasr.configs.clients import ClientsConfig
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.federate_worker import require_address

Axis = Literal["ff_units", "heads", "channels"]
Averaging = Literal["counted", "zero_filled"]
Aggregator = Literal["mean", "clipping", "zeroing", "dp", "quantised", "secure"]


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What share of each block is left out of a client's model.

    The defaults are "Amb-2 50%" of the ambient-layers paper, table 3. Its printed sizes follow
    only if feed-forward inner units alone are dropped, and all other blocks are given a rate of
    their own, 10 %.

    Args:
        kind: "ambient" and "critical" give `rate` to the blocks at that end of the ranking and
            `base_rate` to all others; "flat" gives `rate` to all; "manual" gives each block its
            own of `rates`; "full" leaves nothing out; "budget" finds the rates that lose least
            where a client may have no more than `budget`, by the upper ends of the intervals of
            the ranking's penalties.
        blocks: How many blocks are at that end.
        rate: Share left out of the chosen blocks, in [0, 1).
        base_rate: Share left out of all others, in [0, 1).
        budget: With "budget", what a client may have: so many bytes or seconds.
        budget_of: "bytes" down and up in a round, in float32; "memory", bytes of weights, of what
            they were before the round and of gradients, activations not counted; or "seconds" of
            a step, taken to grow by `seconds_per_parameter`.
        seconds_per_parameter: As measured on a client, by two sizes of a model.
        rates: With "manual", the share left out of each block, the lowest block first, in [0, 1).
        axes: What is left out: "ff_units", inner units of the feed-forward modules; "heads" of
            attention; "channels" of the convolution, in whole groups where they are normalised
            in groups. Shares are rounded to whole units, so 10 % of 4 heads is none.
        chosen: What becomes of the blocks that "ambient" or "critical" chose, beside `rate`.
            "train" trains them as all others. "freeze" sends them to the clients, which neither
            train them nor send them back. "seed" draws them anew once, from a counted seed, and
            sends the clients that seed in their place: 16 bytes a block; nobody trains them.
            "seed_and_train" draws them anew likewise, but trains them from there on: the seed
            stands for them in the first round alone.
        groups: Sub-models in a round, all of one size. With 1, all its clients share one; with
            more, clients have one of them in turn, and as many as there are clients give each
            its own: more of the full model is trained in a round, each part by fewer clients.
        scaling: "none" leaves what the kept units of a module add up to as it is; "inverse"
            multiplies it by the inverse of their share, as dropout does.
    """

    kind: Literal["full", "flat", "ambient", "critical", "manual", "budget"] = "ambient"
    blocks: int = 2
    rate: float = 0.5
    base_rate: float = 0.1
    budget: float = 0.0
    budget_of: Literal["bytes", "memory", "seconds"] = "bytes"
    seconds_per_parameter: float = 0.0
    rates: tuple[float, ...] = ()
    axes: tuple[Axis, ...] = ("ff_units",)
    chosen: Literal["train", "freeze", "seed", "seed_and_train"] = "train"
    groups: int = 1
    scaling: Literal["none", "inverse"] = "none"

    def __post_init__(self) -> None:
        for name in ("blocks", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        for name in ("rate", "base_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1); got {name}={getattr(self, name)}")
        if wrong := [rate for rate in self.rates if not 0 <= rate < 1]:
            raise ValueError(f"rates must be in [0, 1); got {wrong[0]} in rates={self.rates}")
        if (self.kind == "manual") != bool(self.rates):
            raise ValueError(
                "rates must be given, one for each block, with kind=manual and no other; "
                f"got kind={self.kind}, rates={self.rates}"
            )
        if self.budget < 0 or (self.kind == "budget") != (self.budget > 0):
            raise ValueError(
                "budget must be positive with kind=budget, and is for no other; "
                f"got kind={self.kind}, budget={self.budget}"
            )
        if self.kind == "budget" and self.budget_of == "seconds":
            if not self.seconds_per_parameter > 0:
                raise ValueError(
                    "seconds_per_parameter must be positive with budget_of=seconds; "
                    f"got seconds_per_parameter={self.seconds_per_parameter}"
                )
        if self.chosen != "train" and self.kind not in ("ambient", "critical"):
            raise ValueError(
                f"chosen={self.chosen} needs blocks that kind=ambient or critical chooses; "
                f"got kind={self.kind}"
            )
        if not self.axes or len(set(self.axes)) < len(self.axes):
            raise ValueError(f"axes must be at least one, none twice; got axes={self.axes}")

    @property
    def needs_ranking(self) -> bool:
        """Whether blocks are chosen or weighed by what `tfasr study` found."""
        return self.kind in ("ambient", "critical", "budget")


# No change of the waveform: a client's own recordings are what it is to learn.
PLAIN_AUDIO = AugmentConfig(speeds=(1.0,), gain_db=(0.0, 0.0), dither=0.0)
# Some twenty utterances of a speaker bear less masking than hours of many.
LIGHT_MASKING = SpecAugmentConfig(time_masks=2, time_width=10, time_share=0.05)


@dataclass(frozen=True, kw_only=True)
class FederateConfig:
    """Goes on training a run on many clients and writes another run.

    Args:
        run: The run to start from, at the checkpoint with its lowest error rate.
        data: A folder made by `tfasr prepare`.
        out: The new run's folder. An unfinished one is resumed, a finished one is left alone.
        ranking: What `tfasr study` found; where it is not given, RUN/study/ranking.json.
        plan: What is left out of a client's model.
        clients: Who the clients are, how a round draws them, and which of them fail it.
        domains: Domains of the clients' speech; empty means those that the data withheld, or
            all where it withheld none.
        rounds: Rounds to the end; more of them prolong a finished run.
        clients_per_round: Clients drawn for a round; no more than there are.
        client_steps: Most steps of a client in a round; it sees an utterance at most once.
        client_batch: Utterances in a step.
        client_learning_rate: Of the clients' SGD.
        client_clip_norm: Largest global norm of a client's gradient.
        client_proximal: FedProx's mu: half of it times the squared distance from the weights that
            the client was sent is added to its loss; 0 for none.
        aggregator: How the clients' updates become one: their "mean", weighted by utterances;
            "clipping", the mean of updates clipped to a norm that four in five of them have;
            "zeroing", the mean with wildly large ones taken for zeros; "dp", the plain mean of
            clipped updates with Gaussian noise, which makes it differentially private to the
            epsilon that is printed; "quantised", the mean of updates sent in 8 bits a coordinate;
            "secure", the mean as a sum of integers, which a server could be kept from reading one
            by one. TFF's open runtime has that sum's arithmetic, not its cryptography.
        averaging: What a weight's sum of updates is divided by where `plan.groups` differ in what
            they train: "counted", by the utterances of the clients that trained it;
            "zero_filled", by those of all, as if the others had left it alone. With one group
            both are the same.
        dp_noise: With "dp": the noise's deviation by the clipping norm. The noise is drawn from
            no counted seed, which anyone could take away again; so such a run does not repeat.
        dp_delta: With "dp": the probability that epsilon need not hold; well under one by the
            number of clients.
        server: Optimizer that takes the clients' mean update as its gradient. None moves a weight
            that no client trained in the round, nor what it remembers of it.
        server_learning_rate: Of that optimizer; 1 with "sgd" is plain federated averaging.
            "adam" and "yogi" want about a hundredth.
        server_momentum: Of "momentum": share of the last step that goes into the next, in [0, 1).
        augmentation: Of the clients' waveforms.
        masking: Of their features.
        evaluate_every: Rounds between evaluations on the validation split of `domains`.
        per_client: Whether, after the last round, each client's own validation utterances are
            transcribed with the model it all began with and with the best one, to see whom the
            rounds helped and whom they harmed. Needs clients by speaker or domain.
        measure: Whether a client's peak memory and the time of its steps are measured before the
            first round, by making them in a process of their own: half a minute, so only where
            asked for. They are in the log and in OUT/client_costs.json from then on.
        workers: Host and port of each `tfasr federate-worker` that computes the clients; where
            none is given, a worker of this machine's own does. A round's clients are dealt to
            them in turn of their names here; what one does not live to compute, the next does.
            Their number changes a round by float32's rounding, which of them is there does not.
        seed: Decides clients, slices, order, masks and dropout of every round.
    """

    run: Path
    data: Path
    out: Path
    ranking: Path = Path()
    plan: PlanConfig = field(default_factory=PlanConfig)
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    domains: tuple[str, ...] = ()
    rounds: int = 50
    clients_per_round: int = 8
    client_steps: int = 4
    client_batch: int = 8
    client_learning_rate: float = 0.05
    client_clip_norm: float = 5.0
    client_proximal: float = 0.0
    aggregator: Aggregator = "mean"
    averaging: Averaging = "counted"
    dp_noise: float = 1.0
    dp_delta: float = 1e-5
    server: Literal["sgd", "momentum", "adam", "yogi"] = "sgd"
    server_learning_rate: float = 1.0
    server_momentum: float = 0.9
    augmentation: AugmentConfig = PLAIN_AUDIO
    masking: SpecAugmentConfig = LIGHT_MASKING
    evaluate_every: int = 10
    per_client: bool = False
    measure: bool = False
    workers: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("rounds", "clients_per_round", "client_steps", "client_batch", "evaluate_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {name}={getattr(self, name)}")
        positive = ("client_learning_rate", "client_clip_norm", "server_learning_rate", "dp_noise")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {name}={getattr(self, name)}")
        if self.plan.groups > 1 and self.aggregator != "mean":
            raise ValueError(
                f"aggregator={self.aggregator} needs one sub-model a round; "
                f"got plan.groups={self.plan.groups}"
            )
        if self.aggregator == "dp" and self.clients.sampling != "uniform":
            raise ValueError(
                "aggregator=dp needs clients.sampling=uniform, for which its epsilon holds; "
                f"got clients.sampling={self.clients.sampling}"
            )
        if self.per_client and self.clients.by not in ("speaker", "domain"):
            raise ValueError(
                "per_client needs clients.by=speaker or domain, whose validation utterances are "
                f"known; got clients.by={self.clients.by}"
            )
        for address in self.workers:
            require_address("workers", address)
        if len(set(self.workers)) < len(self.workers):
            raise ValueError(f"workers must be named once; got workers={','.join(self.workers)}")
        if not self.client_proximal >= 0:
            raise ValueError(
                f"client_proximal must be at least 0; got client_proximal={self.client_proximal}"
            )
        if not 0 < self.dp_delta < 1:
            raise ValueError(f"dp_delta must be in (0, 1); got dp_delta={self.dp_delta}")
        if not 0 <= self.server_momentum < 1:
            raise ValueError(
                f"server_momentum must be in [0, 1); got server_momentum={self.server_momentum}"
            )

    @property
    def ranking_path(self) -> Path:
        """Where the ranking is."""
        return self.run / "study" / "ranking.json" if self.ranking == Path() else self.ranking
