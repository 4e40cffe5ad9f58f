"""The `tfasr` command. Answers `--help` and wrong options without TensorFlow."""

import importlib
import json
import os
import re
import sys
import typing
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, its configuration, an example, its positional argument."""

    summary: str
    config: str
    example: str
    positional: str = ""


STAGES = {
    "prepare": Stage(
        "a corpus to manifests, tokenizer, feature statistics and shards",
        "tfasr.configs.prepare:PrepareConfig",
        "tfasr prepare --corpus librispeech --source LibriSpeech --out work/data",
    ),
    "data-service": Stage(
        "makes a training's batches on other hosts, as a tf.data service",
        "tfasr.configs.data_service:DataServiceConfig",
        "tfasr data-service --role dispatcher --port 5050",
    ),
    "train": Stage(
        "a Conformer with CTC on prepared data",
        "tfasr.configs.training:TrainConfig",
        "tfasr train --config conformer_s --data work/data --run work/run",
    ),
    "lm": Stage(
        "an n-gram language model of tokens, for a beam search",
        "tfasr.configs.language_model:LanguageModelConfig",
        "tfasr lm --source work/data --out work/lm.arpa --order 6 --prune 0,0,1",
    ),
    "evaluate": Stage(
        "word and character error rates of a run, several runs together or an exported model",
        "tfasr.configs.evaluation:EvaluateConfig",
        "tfasr evaluate --run work/run --data work/data --split test",
    ),
    "study": Stage(
        "which blocks matter: reset each in turn and evaluate",
        "tfasr.configs.study:StudyConfig",
        "tfasr study --run work/run --data work/data",
    ),
    "federate": Stage(
        "federated rounds with smaller client models, from a run and its ranking",
        "tfasr.configs.federated:FederateConfig",
        "tfasr federate --run work/run --data work/data --plan.kind ambient --out work/adapted",
    ),
    "federate-worker": Stage(
        "computes clients of federated rounds on another host",
        "tfasr.configs.federate_worker:FederateWorkerConfig",
        "tfasr federate-worker --port 8000",
    ),
    "export": Stage(
        "a SavedModel with the ambient blocks frozen",
        "tfasr.configs.export:ExportConfig",
        "tfasr export --run work/run --out saved_models/NAME",
    ),
    "serve": Stage(
        "an exported model over REST, gRPC and WebSocket, with a web page",
        "tfasr.configs.serving:ServeConfig",
        "tfasr serve --model saved_models/NAME",
    ),
    "transcribe": Stage(
        "audio files to text, JSON or subtitles",
        "tfasr.configs.serving:TranscribeConfig",
        "tfasr transcribe --model saved_models/NAME --format srt --out work/srt speech.wav more",
        positional="files",
    ),
    "describe": Stage(
        "blocks and modules of a model with shapes and parameters",
        "tfasr.configs.describe:DescribeConfig",
        "tfasr describe --config conformer_s",
    ),
    "quickstart": Stage(
        "all stages on synthetic speech, and a table of what came out",
        "tfasr.configs.quickstart:QuickstartConfig",
        "tfasr quickstart --work work/quickstart",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one stage.

    Args:
        arguments: Of the command line; None takes the process's own.

    Returns:
        0, 1 where the stage failed, 2 where the arguments are wrong, 130 where interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name = given[0]
    if name not in STAGES:
        print(f"tfasr: no stage {name!r}; it has {', '.join(STAGES)}", file=sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Told by a package of TensorFlow Federated's on every import; users can't mend it.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    try:
        config = _parse(name, given[1:])
    except ValueError as error:
        print(f"tfasr {name}: {error} (see tfasr {name} --help)", file=sys.stderr)
        return 2
    try:
        importlib.import_module(f"pipelines.{name.replace('-', '_')}").run(config)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"tfasr {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"tfasr {name}: interrupted; run the same command to go on", file=sys.stderr)
        return 130
    return 0


def _overview() -> str:
    width = max(map(len, STAGES))
    stages = "\n".join(f"  {name:{width}}  {stage.summary}" for name, stage in STAGES.items())
    return (
        "usage: tfasr STAGE [--config PRESET_OR_YAML] [options]\n\n"
        "Speech recognition from recorded speech to served text. The stages, in order:\n\n"
        f"{stages}\n\n"
        "Start with `tfasr quickstart`. `tfasr STAGE --help` lists a stage's options; --config\n"
        "takes a preset such as conformer_s or a YAML file whose sections are named like stages."
    )


def _parse(name: str, arguments: list[str]) -> Any:
    from jsonargparse import ArgumentError

    from tfasr.configs.loading import make_parser, one_line, option_types

    stage = STAGES[name]
    module, _, attribute = stage.config.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    parser = make_parser(
        kind,
        skip={stage.positional} - {""},
        prog=f"tfasr {name}",
        description=f"{stage.summary[0].upper()}{stage.summary[1:]}.",
        epilog=f"example: {stage.example}",
    )
    parser.add_argument("--config", action="config", help="A preset or a YAML file.")
    if stage.positional:
        parser.add_argument(stage.positional, nargs="*", type=Path, help="Files and folders.")
    try:
        values = parser.parse_args(_expanded(name, arguments, option_types(kind)))
        parsed = vars(parser.instantiate(values))
        return kind(**{key: _frozen(value) for key, value in parsed.items() if key != "config"})
    except (ArgumentError, TypeError) as error:
        raise ValueError(_readable(one_line(error))) from None


def _readable(message: str) -> str:
    """Says what an option takes in the words of `--help`."""
    choice = re.search(
        r'key "(.+?)": Expected a typing\.Literal\[(.+?)\]\. Got value: (.*)', message
    )
    if choice:
        allowed = choice[2].replace("'", "")
        return f"--{choice[1]} takes one of {allowed}; got {choice[3]}"
    if message.startswith("unrecognized arguments:"):
        return f"{message}; lists are written with commas, as in a,b"
    return message


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _expanded(name: str, arguments: list[str], types: dict[str, Any]) -> list[str]:
    """Writes arguments as the parser takes them.

    A `--config` is given the stage's values in JSON, a bare flag "true", a list its brackets;
    a list's option that is given again adds to it.
    """
    split = _parts(arguments, types)
    out: list[str] = []
    for argument, after in zip(split, [*split[1:], "--"], strict=True) if split else ():
        option = out[-1] if out else ""
        if option == "--config":
            argument = _section(name, argument)
        elif _is_list(types.get(option)) and argument not in types:
            if not argument.startswith(("[", "(")):
                argument = _list(argument, types[option])
            if option in out[:-1]:
                place = out.index(option) + 1
                out[place] = f"{out[place][:-1]},{argument[1:]}"
                out.pop()
                continue
        out.append(argument)
        if types.get(argument) is bool and after.startswith("--"):
            out.append("true")
    return out


def _list(argument: str, kind: Any) -> str:
    """Writes "a,b" as the parser's list; names stay names, whatever they look like."""
    items = argument.split(",") if argument else []
    if typing.get_args(kind)[0] in (str, Path):
        return json.dumps(items)
    return f"[{argument}]"


def _parts(arguments: list[str], types: dict[str, Any]) -> list[str]:
    """Parts options from their values; a list's value may look like an option of another tool."""
    parts: list[str] = []
    for argument in arguments:
        option = parts[-1] if parts else ""
        is_own = argument.partition("=")[0] in {*types, "--config", "--help"}
        if argument.startswith("--") and (is_own or not _is_list(types.get(option))):
            parts += argument.split("=", 1)
        else:
            parts.append(argument)
    return parts


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _section(name: str, config: str) -> str:
    """Returns, as JSON, what a preset or a YAML file says of a stage."""
    from tfasr.configs.loading import field_names, read_yaml, to_mapping
    from tfasr.configs.presets import PRESETS

    shipped = Path(__file__).parent / "configs"
    path = next((p for p in (Path(config), shipped / f"{config}.yaml") if p.is_file()), None)
    if path is None and config in PRESETS:
        sections = {"train": {"model": to_mapping(PRESETS[config])}}
    elif path is not None:
        sections = read_yaml(path)
        unknown = sorted(set(sections) - set(STAGES))
        if unknown:
            raise ValueError(
                f"{path}: a section must be named like a stage; got {', '.join(unknown)}"
            )
    else:
        names = [*PRESETS, *sorted(file.stem for file in shipped.glob("*.yaml"))]
        raise ValueError(f"--config takes a YAML file or one of {', '.join(names)}; got {config}")
    if name == "describe":
        return json.dumps({"model": sections.get("train", {}).get("model", {})})
    return json.dumps(field_names(sections.get(name) or {}))


if __name__ == "__main__":
    sys.exit(main())
