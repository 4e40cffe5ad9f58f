"""Configurations to and from YAML and the command line."""

import dataclasses
import keyword
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

Config = TypeVar("Config")


def make_parser(kind: type, skip: Collection[str] = frozenset(), **settings: Any) -> ArgumentParser:
    """Makes a parser whose options are the fields of a dataclass, documented as there.

    A field that ends in "_", since its name is a word of Python's, is an option without it.
    """
    parser = ArgumentParser(exit_on_error=False, **settings)
    parser.add_class_arguments(kind, skip=set(skip))
    for action in parser._actions:
        action.option_strings = [option.removesuffix("_") for option in action.option_strings]
        parser._option_string_actions |= dict.fromkeys(action.option_strings, action)
    return parser


def option_types(kind: type, prefix: str = "--") -> dict[str, Any]:
    """The type of each option of `make_parser`, such as {"--model.encoder.dim": int}."""
    types: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            types |= option_types(hint, f"{prefix}{name}.")
        else:
            types[f"{prefix}{name.removesuffix('_')}"] = hint
    return types


def field_names(values: Any) -> Any:
    """Gives keys that are words of Python's, such as "as", the names of their fields."""
    if not isinstance(values, Mapping):
        return values
    return {
        f"{key}_" if keyword.iskeyword(str(key)) else key: field_names(value)
        for key, value in values.items()
    }


def from_mapping(kind: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """Builds a configuration from nested values.

    Args:
        kind: A dataclass.
        values: Its fields, nested as YAML gives them.
        source: What the values were read from, for messages.

    Returns:
        The configuration.

    Raises:
        ValueError: A field is unknown, missing or of a wrong type; names source and field.
    """
    parser = make_parser(kind)
    try:
        return kind(**vars(parser.instantiate(parser.parse_object(field_names(dict(values))))))
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: {one_line(error)}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Turns a configuration into what YAML and JSON can hold."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ValueError: The file is missing, no YAML or no mapping; the message names it.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: must be YAML; {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must be a mapping; got {type(values).__name__}")
    return values


def to_yaml(values: Mapping[str, Any]) -> str:
    """Writes nested values as YAML, in their own order."""
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def one_line(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())
