"""`tfasr federate`: federated rounds with smaller client models, from a run to a run."""

import tensorflow as tf

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import read_json_lines, write_json
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.data.clients import read_clients, write_clients
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.transcription import Validation, model_transcriber, transcribe_batches
from tfasr.federated.aggregators import epsilon
from tfasr.federated.budget import droppable
from tfasr.federated.folder import CLIENTS, check_tokens, create_run
from tfasr.federated.hosts import require_answers
from tfasr.federated.measuring import with_costs
from tfasr.federated.personalisation import QUARTILES, personalisation
from tfasr.federated.phases import Phase, build_phases
from tfasr.federated.plans import AXES, budget_spendings, client_plan
from tfasr.federated.population import Population, client_pipeline
from tfasr.federated.round_log import LOG
from tfasr.federated.rounds import FederatedTrainer
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run

PER_CLIENT = "per_client.json"


def run(config: FederateConfig) -> None:
    """Runs the rounds of a federated run to their end, from wherever it stands."""
    data, origin = PreparedData(config.data), Run(config.run)
    _refuse_other_models(origin)
    origin.check_data(data)
    check_tokens(origin, data)
    ranking = _ranking(config, origin)
    plan = client_plan(config.plan, origin.model_config, ranking)
    if config.plan.kind == "budget":
        _print_budget(config.plan, origin.model_config, ranking)
    folder = create_run(config, plan)
    done = max(folder.checkpoints.steps(), default=0)
    if done >= config.rounds:
        print(f"{config.out}: already ran {done} rounds; a higher --rounds prolongs it")
        if config.per_client:
            _compare_clients(config, folder, data)
        return
    require_answers(config.workers)
    if done:
        print(f"{config.out}: goes on from round {done}")
    population = _population(config, folder, data)
    population.require(config.clients_per_round)
    if config.aggregator == "dp":
        found = epsilon(config, len(population.clients))
        print(
            f"federate: differential privacy: epsilon {found:.2f} at delta {config.dp_delta:g} "
            f"after {config.rounds} rounds of {config.clients_per_round} of "
            f"{len(population.clients)} clients"
        )
    phases = build_phases(folder.model_config, plan, config)
    if config.measure:
        phases = with_costs(config.out, phases)
    _print_plan(config, phases)
    batches = _validation_batches(config, folder, data)
    validate = Validation(batches, folder.tokenizer.pieces)
    FederatedTrainer(folder, config, phases, population, validate).train(ProgressLine("federate"))
    _print_outcome(config, folder)
    if config.per_client:
        _compare_clients(config, folder, data)


def _refuse_other_models(origin: Run) -> None:
    model = origin.model_config
    if model.family != "conformer" or model.decoder.num_blocks_left:
        raise ValueError(
            f"{origin.folder}: clients train Conformers with CTC alone; got family={model.family}, "
            f"decoder.num_blocks_left={model.decoder.num_blocks_left}"
        )
    if model.encoder.conv_norm == "batch":
        raise ValueError(
            f"{origin.folder}: a client's model must not have batch normalisation, whose moving "
            "averages no client could send back; got conv_norm=batch. Train it with conv_norm=group"
        )


def _domains(config: FederateConfig, data: PreparedData) -> tuple[str, ...]:
    return config.domains or data.withheld_domains


def _ranking(config: FederateConfig, origin: Run) -> Ranking | None:
    if not config.plan.needs_ranking:
        return None
    if not config.ranking_path.is_file():
        raise ValueError(
            f"{config.ranking_path}: plan.kind={config.plan.kind} needs a ranking; got no such "
            f"file. Run `tfasr study --run {config.run} --data {config.data}` first"
        )
    ranking = Ranking.read(config.ranking_path)
    ranking.require_model(weights_hash(Layout(origin.trained_model())), config.ranking_path)
    return ranking


def _population(config: FederateConfig, folder: Run, data: PreparedData) -> Population:
    clients = write_clients(
        data,
        config.out / CLIENTS,
        domains=_domains(config, data),
        limits=folder.config.batching,
        config=config.clients,
        seed=config.seed,
    )
    hours = sum(client.seconds for client in clients) / 3600
    utterances = sum(client.utterances for client in clients)
    domains = ", ".join(_domains(config, data)) or "all"
    print(
        f"federate: {len(clients)} clients by {config.clients.by}, {utterances} utterances, "
        f"{hours:.2f} h, domains {domains}"
    )
    return Population(clients, client_pipeline(folder, config), config.clients)


def _validation_batches(config: FederateConfig, folder: Run, data: PreparedData) -> tf.data.Dataset:
    domains = _domains(config, data)
    return evaluation_batches(
        data.source("valid"),
        data.durations("valid", domains),
        domains=domains,
        extractor=folder.extractor,
    )


def _compare_clients(config: FederateConfig, folder: Run, data: PreparedData) -> None:
    clients = [client.name for client in read_clients(config.out / CLIENTS)]
    batches = _validation_batches(config, folder, data)
    pieces = folder.tokenizer.pieces
    before, after = (
        transcribe_batches(model_transcriber(run.trained_model(), pieces), batches)
        for run in (Run(config.run), folder)
    )
    found = personalisation(
        before, after, clients, "domain" if config.clients.by == "domain" else "speaker"
    )
    write_json(config.out / PER_CLIENT, found.to_json())
    print(
        f"federate: word error rates of {len(found.rates)} of {len(clients)} clients, in percent:"
    )
    print(f"  {'':8}" + "".join(f"{name:>16}" for name in QUARTILES))
    for name, values in found.quartiles().items():
        print(f"  {name:8}" + "".join(f"{100 * value:16.2f}" for value in values))
    for name, rates in {"worst": found.worst, "most harmed": found.most_harmed}.items():
        print(
            f"  {name} is {rates.client}: {100 * rates.before:.2f} before, "
            f"{100 * rates.after:.2f} after, of {rates.words} words"
        )


def _print_budget(plan: PlanConfig, model: ModelConfig, ranking: Ranking | None) -> None:
    modules = [module for module, axis in AXES.items() if axis in plan.axes]
    best, flat = budget_spendings(plan, droppable(model, modules), ranking)
    print(
        f"federate: {plan.budget:,.12g} {plan.budget_of} a client; if loss grows as rate squared:"
    )
    for name, found in {"budget": best, "flat": flat}.items():
        rates = " ".join(f"{rate:.3f}" for rate in found.rates)
        print(
            f"  {name}: {found.parameters:,} parameters, at most {100 * found.loss:.2f} points "
            f"lost, rates by block {rates}"
        )


def _print_plan(config: FederateConfig, phases: list[Phase]) -> None:
    plan = phases[0].plan
    print(f"federate: plan {config.plan.kind}, units kept by block:")
    for module in plan.units[0]:
        if AXES[module] in config.plan.axes:
            print(f"  {module}: {' '.join(str(units[module]) for units in plan.units)}")
    for what, blocks in {"not trained": plan.frozen, "drawn from a seed": plan.seeded}.items():
        if blocks:
            print(f"  blocks {what}: {' '.join(map(str, blocks))}")
    for phase in phases:
        sizes = phase.sizes
        print(
            f"federate: from round {phase.first + 1}: {sizes.parameters_full:,} parameters, "
            f"{sizes.parameters_client:,} at a client, {sizes.parameters_trained:,} trained, "
            f"{sizes.dropped:,} dropped ({100 * sizes.dropped_share:.1f} %); "
            f"{sizes.bytes_down:,} bytes down and {sizes.bytes_up:,} up per client and round"
        )
        if phase.cost:
            cost = phase.cost
            print(
                f"  measured at client {cost.client}: {cost.client_peak_bytes / 1e6:,.1f} MB at "
                f"most beside TensorFlow's own, {cost.client_step_seconds:.3f} s a step on one core"
            )


def _print_outcome(config: FederateConfig, folder: Run) -> None:
    rows = [row for row in read_json_lines(folder.folder / LOG) if "wer" in row]
    best = folder.checkpoints.best_step()
    lowest = folder.checkpoints.progress(best).validation["wer"]
    print(
        f"{config.out}: validation word error rate {100 * rows[0]['wer']:.2f} % before, "
        f"{100 * rows[-1]['wer']:.2f} % after {rows[-1]['round']} rounds, "
        f"{100 * lowest:.2f} % at best (round {best})"
    )
    write_json(
        config.out / "finished.json", {"round": rows[-1]["round"], "best": best, "wer": lowest}
    )
