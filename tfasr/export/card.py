"""The model card: what a version is, for those who find only its folder."""

from pathlib import Path
from typing import Any

from tfasr.artifacts.files import read_json
from tfasr.training.run import Run

_FORMS = {
    "constant": "are constants of the graph",
    "seed": "are reset to fresh weights, which are drawn from a seed when the model is loaded",
    "pruned": "are left out, but for the norm at the end of their residual path",
    "int8": "have kernels of 8 bits, turned into floats when the model is loaded",
}
_LICENCE = (
    "The code that made it is under Apache-2.0. The weights are derived from the data named "
    "above, whose own licence rules what they may be used for."
)


def model_card(about: dict[str, Any], source: Run) -> str:
    """Writes the card in Markdown.

    Args:
        about: What `export.json` says.
        source: The run that the version was made of.

    Returns:
        The text of `README.md`.
    """
    config = source.config
    sections = [
        f"# {about['name']}, version {about['version']}",
        f"Speech to text at {about['sample_rate']:,} Hz: {config.model.family}, "
        f"{about['blocks']} blocks, {about['parameters']:,} parameters, "
        f"{about['vocabulary']:,} tokens. Decodes by {about['decoder']['kind']}"
        f"{', and takes streams' if 'window' in about else ''}.",
        "## Data",
        f"Trained for {config.steps:,} steps on the data prepared in `{config.data.name}`, "
        f"domains: {', '.join(config.domains) or 'all that it does not withhold'}.",
        "## Score",
        _scores(source.folder),
        "## Frozen",
        _frozen(about["frozen"]),
        *_recovered(about),
        "## Made by",
        f"    {about['command']}",
        f"{_commit(about['commit'])}, from weights with hash `{about['model_hash'][:16]}`; "
        "`export.json` has the hashes of all files, and `tfasr export --check` holds them "
        "against it.",
        "## Licence",
        _LICENCE,
    ]
    return "\n\n".join(sections) + "\n"


def _scores(run: Path) -> str:
    rows = [_score(path) for path in sorted(run.glob("evaluation*/evaluation.json"))]
    if not rows:
        return "None: `tfasr evaluate` has not been run on the run it was made of."
    head = "| evaluation of the run, nothing frozen | word error rate | 95 % interval | words |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def _score(path: Path) -> str:
    values = read_json(path)
    low, high = values["wer_interval"]
    return (
        f"| {path.parent.name} | {100 * values['wer']:.2f} % | {100 * low:.2f} to "
        f"{100 * high:.2f} | {values['words']:,} |"
    )


def _commit(commit: str) -> str:
    return f"at commit `{commit}`" if commit else "at no known commit"


def _recovered(about: dict[str, Any]) -> list[str]:
    if "recovered_steps" not in about:
        return []
    how = "steps" if about["recovered_by"] == "central" else "federated rounds"
    return [f"The other blocks were then trained for {about['recovered_steps']:,} more {how}."]


def _frozen(frozen: dict[str, Any]) -> str:
    if not frozen["blocks"]:
        return "Nothing."
    blocks = ", ".join(map(str, frozen["blocks"]))
    seed = f" (seed {frozen['seed']}, draw {frozen['draw']})" if "seed" in frozen else ""
    return (
        f"Blocks {blocks}, {frozen['parameters']:,} parameters, {_FORMS[frozen['as']]}{seed}. They "
        f"were chosen by `{frozen['ranking']}` (SHA-256 `{frozen['ranking_sha256'][:16]}`)."
    )
