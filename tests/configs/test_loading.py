from dataclasses import dataclass
from pathlib import Path

import pytest

from tfasr.configs.data import BatchConfig
from tfasr.configs.export import ExportConfig, Form
from tfasr.configs.features import AugmentConfig, SpecAugmentConfig
from tfasr.configs.loading import (
    from_mapping,
    make_parser,
    one_line,
    option_types,
    read_yaml,
    to_mapping,
    to_yaml,
)
from tfasr.configs.model import EncoderConfig, ModelConfig
from tfasr.configs.training import OptimizerConfig, TrainConfig

CONFIG = TrainConfig(
    data=Path("some/data"),
    run=Path("some/run"),
    model=ModelConfig(
        encoder=EncoderConfig(num_blocks=2, dim=12, num_heads=2, norm_groups=4, conv_norm="batch"),
        num_mels=40,
        vocabulary=31,
    ),
    augmentation=AugmentConfig(speeds=(0.8, 1.0), gain_db=(0.0, 0.0), noise_share=0.25),
    masking=SpecAugmentConfig(time_share=0.05),
    batching=BatchConfig(batch_seconds=12.5),
    optimizer=OptimizerConfig(peak=1e-5, weight_decay=1e-6),
    domains=("close", "telephone"),
    precision="mixed_bfloat16",
    steps=17,
    seed=3,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Nested settings.

    Args:
        rate: A number.
    """

    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings with one that is required.

    Args:
        name: A word.
        count: How many.
        inner: Nested.
    """

    name: str
    count: int = 1
    inner: Inner = Inner()


def test_a_configuration_survives_the_way_through_a_mapping():
    assert from_mapping(TrainConfig, to_mapping(CONFIG), "here") == CONFIG


def test_a_configuration_survives_the_way_through_a_yaml_file(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(to_mapping(CONFIG)), encoding="utf-8")
    assert from_mapping(TrainConfig, read_yaml(tmp_path / "config.yaml"), "here") == CONFIG


def test_a_mapping_holds_nothing_but_what_yaml_can():
    assert to_mapping(CONFIG)["data"] == "some/data"
    assert to_mapping(CONFIG)["augmentation"]["speeds"] == [0.8, 1.0]


def test_what_a_mapping_leaves_out_has_its_default():
    config = from_mapping(Outer, {"name": "a", "inner": {}}, "here")
    assert config == Outer(name="a", count=1, inner=Inner(rate=0.5))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "a", "cuont": 2}, "cuont"),
        ({"name": "a", "inner": {"raet": 0.1}}, "raet"),
        ({"name": "a", "count": "many"}, "count"),
        ({"name": "a", "count": 1.5}, "count"),
        ({"name": "a", "inner": {"rate": "fast"}}, "rate"),
        ({"count": 2}, "name"),
    ],
)
def test_an_unknown_wrong_or_missing_field_is_named_with_its_source(values, field):
    with pytest.raises(ValueError, match=rf"^conf\.yaml: .*{field}"):
        from_mapping(Outer, values, "conf.yaml")


def test_a_choice_that_does_not_exist_is_named_with_its_source():
    values = {**to_mapping(CONFIG), "precision": "float16"}
    with pytest.raises(ValueError, match=r"^conf\.yaml: .*precision.*float16"):
        from_mapping(TrainConfig, values, "conf.yaml")


def test_a_broken_rule_keeps_its_message_and_gets_the_source():
    with pytest.raises(ValueError, match=r"^conf\.yaml: .*num_blocks must be at least 1; got"):
        from_mapping(ModelConfig, {"encoder": {"num_blocks": 0}}, "conf.yaml")


def test_messages_are_one_line():
    with pytest.raises(ValueError, match=r"^conf\.yaml") as error:
        from_mapping(Outer, {"name": "a", "cuont": 2}, "conf.yaml")
    assert "\n" not in str(error.value)


def test_line_breaks_are_taken_out_of_an_error():
    assert one_line(ValueError("one\n   two\n")) == "one two"


def test_a_number_may_be_written_as_1e_3_in_a_file(tmp_path):
    (tmp_path / "conf.yaml").write_text("name: a\ninner: {rate: 1e-3}\n")
    config = from_mapping(Outer, read_yaml(tmp_path / "conf.yaml"), "conf.yaml")
    assert config.inner.rate == 0.001


def test_options_have_the_types_of_their_fields():
    assert option_types(Outer) == {"--name": str, "--count": int, "--inner.rate": float}


def test_options_that_are_skipped_are_no_options():
    assert "--count" not in make_parser(Outer, skip={"count"}).format_help()


def test_options_carry_the_documentation_of_their_fields():
    assert "How many." in make_parser(Outer).format_help()


def test_a_missing_yaml_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1, 2", "must be YAML"),
        (b"\xff\xfe\xff", "must be YAML"),
        (b"- 1\n- 2\n", "must be a mapping; got list"),
        (b"", "must be a mapping; got NoneType"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_named(tmp_path, content, message):
    (tmp_path / "conf.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"conf\.yaml: {message}"):
        read_yaml(tmp_path / "conf.yaml")


def test_yaml_keeps_the_order_and_the_letters():
    assert to_yaml({"z": "é", "a": [1]}) == "z: é\na:\n- 1\n"


def test_a_field_named_like_a_word_of_python_is_an_option_without_its_underscore():
    parser = make_parser(ExportConfig)
    values = parser.parse_args(["--run", "r", "--out", "o", "--freeze.as", "seed"])
    assert parser.instantiate(values).freeze.as_ == "seed"
    assert option_types(ExportConfig)["--freeze.as"] == Form
    assert "--freeze.as {constant,seed,pruned,int8}" in parser.format_help()
    assert "as_" not in parser.format_help().replace("FREEZE.AS_", "")


def test_a_mapping_may_name_such_a_field_either_way():
    for name in ("as", "as_"):
        values = {"run": "r", "out": "o", "freeze": {name: "pruned"}}
        assert from_mapping(ExportConfig, values, "x.yaml").freeze.as_ == "pruned"
