"""`tfasr federate`: federated rounds with smaller client models, from a run to a run."""

from pipelines.progress import ProgressLine
from tfasr.artifacts.files import read_json_lines, write_json
from tfasr.configs.federated import FederateConfig, PlanConfig
from tfasr.configs.model import ModelConfig
from tfasr.data.clients import ClientPipeline, write_clients
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.evaluation.transcription import Validation
from tfasr.federated.aggregators import epsilon
from tfasr.federated.budget import droppable
from tfasr.federated.folder import check_tokens, create_run
from tfasr.federated.phases import Phase, build_phases
from tfasr.federated.plans import AXES, budget_spendings, client_plan
from tfasr.federated.rounds import LOG, FederatedTrainer, Population
from tfasr.models.layout import Layout, weights_hash
from tfasr.study.ranking import Ranking
from tfasr.training.run import Run


def run(config: FederateConfig) -> None:
    """Runs the rounds of a federated run to their end, from wherever it stands."""
    data, origin = PreparedData(config.data), Run(config.run)
    origin.check_data(data)
    check_tokens(origin, data)
    _refuse_other_models(origin)
    ranking = _ranking(config, origin)
    plan = client_plan(config.plan, origin.model_config, ranking)
    if config.plan.kind == "budget":
        _print_budget(config.plan, origin.model_config, ranking)
    folder = create_run(config, plan)
    done = max(folder.checkpoints.steps(), default=0)
    if done >= config.rounds:
        print(f"{config.out}: already ran {done} rounds; a higher --rounds prolongs it")
        return
    if done:
        print(f"{config.out}: goes on from round {done}")
    population = _population(config, folder, data)
    if config.aggregator == "dp":
        found = epsilon(config, len(population.clients))
        print(
            f"federate: differential privacy: epsilon {found:.2f} at delta {config.dp_delta:g} "
            f"after {config.rounds} rounds of {config.clients_per_round} of "
            f"{len(population.clients)} clients"
        )
    phases = build_phases(folder.model_config, plan, config)
    _print_plan(config, phases)
    validate = _validation(config, folder, data)
    FederatedTrainer(folder, config, phases, population, validate).train(ProgressLine("federate"))
    _print_outcome(config, folder)


def _refuse_other_models(origin: Run) -> None:
    model = origin.model_config
    if model.family != "conformer" or model.decoder.num_blocks_left:
        raise ValueError(
            f"{origin.folder}: clients train Conformers with CTC alone; got family={model.family}, "
            f"decoder.num_blocks_left={model.decoder.num_blocks_left}"
        )


def _domains(config: FederateConfig, data: PreparedData) -> tuple[str, ...]:
    return config.domains or data.withheld_domains


def _ranking(config: FederateConfig, origin: Run) -> Ranking | None:
    if not config.plan.needs_ranking:
        return None
    ranking = Ranking.read(config.ranking_path)
    ranking.require_model(weights_hash(Layout(origin.trained_model())), config.ranking_path)
    return ranking


def _population(config: FederateConfig, folder: Run, data: PreparedData) -> Population:
    clients = write_clients(
        data,
        config.out / "clients",
        domains=_domains(config, data),
        limits=folder.config.batching,
    )
    hours = sum(client.seconds for client in clients) / 3600
    utterances = sum(client.utterances for client in clients)
    domains = ", ".join(_domains(config, data)) or "all"
    print(
        f"federate: {len(clients)} clients, {utterances} utterances, {hours:.2f} h, "
        f"domains {domains}"
    )
    pipeline = ClientPipeline(
        extractor=folder.extractor,
        augmentation=config.augmentation,
        masking=config.masking,
        batch=config.client_batch,
        steps=config.client_steps,
        seed=config.seed,
    )
    return Population(clients, pipeline)


def _validation(config: FederateConfig, folder: Run, data: PreparedData) -> Validation:
    domains = _domains(config, data)
    batches = evaluation_batches(
        data.source("valid"),
        data.durations("valid", domains),
        domains=domains,
        extractor=folder.extractor,
    )
    return Validation(batches, folder.tokenizer.pieces)


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
