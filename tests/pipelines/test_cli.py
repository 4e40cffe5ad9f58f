import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import STAGES, main
from tfasr.configs.model import EncoderConfig
from tfasr.configs.presets import CONFORMER_M

IMPORTS = """
import sys
from pipelines.cli import main
for arguments in (["--help"], ["nosuch"], ["train", "--nosuch"], ["evaluate", "--data", "d"]):
    main(arguments)
try:
    main(["train", "--help"])
except SystemExit:
    pass
heavy = {"tensorflow", "keras", "numpy", "tensorflow_federated", "matplotlib"}
print("loaded:", *sorted(heavy & set(sys.modules)))
"""


@pytest.fixture
def config_of(monkeypatch):
    """Runs a command whose stage does nothing, and returns what it would have been given."""

    def parse(stage, *arguments):
        given = []
        monkeypatch.setattr(f"pipelines.{stage}.run", given.append)
        assert main([stage, *arguments]) == 0
        return given[0]

    return parse


def failure(capsys, *arguments, code=2):
    """The one line that a command says when it fails."""
    assert main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


EVALUATE = ("--data", "d", "--run", "r")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_stages(capsys, arguments):
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_documents_its_options(capsys, stage):
    with pytest.raises(SystemExit) as stop:
        main([stage, "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert f"tfasr {stage}" in told
    assert f"example: tfasr {stage}" in told


def test_an_unknown_stage_is_named_with_those_there_are(capsys):
    assert failure(capsys, "trian").startswith(
        "tfasr: no stage 'trian'; it has prepare, data-service, train"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("evaluate", *EVALUATE, "--nosuch", "3"), "unrecognized arguments: --nosuch 3"),
        (("train", "--data", "d"), "required: run"),
        (("train", "--data", "d", "--run", "r", "--steps", "many"), '"steps"'),
        (("evaluate", *EVALUATE, "--split", "dev"), "--split takes one of"),
        (("evaluate", "--data", "d"), "one of --run and --model"),
        (("evaluate", *EVALUATE, "--domains"), "--domains"),
        (("train", "--data", "d", "--run", "r", "--steps", "0"), "got steps=0"),
        (("train", "--data", "d", "--run", "r", "--model.encoder.dim", "15"), "got dim=15"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(capsys, arguments, reason):
    told = failure(capsys, *arguments)
    stage = arguments[0]
    assert told.startswith(f"tfasr {stage}: ")
    assert told.endswith(f"(see tfasr {stage} --help)\n")
    assert reason in told


def test_a_stage_that_fails_says_why_in_one_line(capsys, tmp_path):
    told = failure(capsys, "evaluate", "--data", str(tmp_path), "--run", "r", code=1)
    assert told == f"tfasr evaluate: {tmp_path}: must be a folder made by `tfasr prepare`\n"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("two\nlines"), 1, "tfasr evaluate: two lines\n"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command to go on\n"),
    ],
)
def test_how_a_stage_ends_decides_the_exit_code(monkeypatch, capsys, error, code, told):
    def fail(config):
        raise error

    monkeypatch.setattr("pipelines.evaluate.run", fail)
    assert failure(capsys, "evaluate", *EVALUATE, code=code).endswith(told)


@pytest.mark.parametrize("form", ["a,b", "[a,b]", "[a, b]"])
@pytest.mark.parametrize("joined", [False, True])
def test_lists_are_written_with_commas(config_of, form, joined):
    option = [f"--domains={form}"] if joined else ["--domains", form]
    assert config_of("evaluate", *EVALUATE, *option).domains == ("a", "b")


def test_a_list_of_one_needs_no_comma(config_of):
    assert config_of("evaluate", *EVALUATE, "--domains", "a").domains == ("a",)


@pytest.mark.parametrize(
    "form", [("--runner_options", "--a=b,--c"), ("--runner_options=--a=b,--c",)]
)
def test_a_list_may_hold_options_of_another_tool(config_of, form):
    folders = ("--corpus", "kaldi", "--source", "s", "--out", "o", "--runner", "DirectRunner")
    config = config_of("prepare", *folders, *form, "--jobs=2")
    assert (config.runner_options, config.jobs) == (("--a=b", "--c"), 2)


def test_a_list_without_a_value_is_named_and_takes_no_option_for_it(capsys):
    told = failure(capsys, "prepare", "--subsets", "--jobs=2")
    assert "--subsets: expected one argument" in told


def test_an_empty_list_is_written_as_nothing(config_of):
    assert config_of("evaluate", *EVALUATE, "--domains", "").domains == ()


def test_a_list_s_option_may_be_repeated(config_of):
    form = ("--run", "a", "--run=b,c", "--data", "d", "--run", "[e]")
    config = config_of("evaluate", *form, "--decoder.kind", "attention")
    assert config.run == (Path("a"), Path("b"), Path("c"), Path("e"))


def test_folders_that_look_like_numbers_are_folders(config_of):
    assert config_of("evaluate", "--data", "d", "--run", "2024").run == (Path("2024"),)


def test_names_that_look_like_numbers_are_names(capsys, config_of):
    assert config_of("evaluate", *EVALUATE, "--domains", "1,no").domains == ("1", "no")


def test_lists_may_start_with_a_minus(capsys, config_of):
    folders = ("--data", "d", "--run", "r")
    config = config_of("train", *folders, "--augmentation.gain_db", "-3,2.5")
    assert config.augmentation.gain_db == (-3.0, 2.5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], False),
        (["--json"], True),
        (["--json", "true"], True),
        (["--json=false"], False),
        (["--json", "--model.num_mels", "40"], True),
    ],
)
def test_a_flag_may_be_bare(config_of, arguments, expected):
    assert config_of("describe", *arguments).json is expected


def test_a_preset_is_a_model(config_of):
    config = config_of("train", "--config", "conformer_m", "--data", "d", "--run", "r")
    assert config.model == CONFORMER_M
    assert config_of("describe", "--config", "conformer_m").model == CONFORMER_M


def test_options_after_a_preset_change_it(config_of):
    config = config_of("describe", "--config=conformer_m", "--model.encoder.num_blocks", "2")
    assert config.model.encoder == EncoderConfig(num_blocks=2, dim=256)


def test_each_stage_reads_its_section_of_a_yaml_file(config_of, tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text("train: {steps: 7, domains: [a, b]}\nevaluate: {split: valid}\n")
    train = config_of("train", "--config", str(path), "--data", "d", "--run", "r")
    assert (train.steps, train.domains) == (7, ("a", "b"))
    assert config_of("evaluate", "--config", str(path), *EVALUATE).split == "valid"
    export = config_of("export", "--config", str(path), "--run", "r", "--out", "o")
    assert export.freeze.blocks == 0


def test_a_description_is_of_the_model_to_be_trained(config_of, tmp_path):
    (tmp_path / "a.yaml").write_text("train: {steps: 7, model: {num_mels: 40}}\n")
    assert config_of("describe", "--config", str(tmp_path / "a.yaml")).model.num_mels == 40


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("trian: {steps: 7}", "a section must be named like a stage; got trian"),
        ("train: {stpes: 7}", "stpes"),
        ("train: [7]", "train"),
        ("- 7", "must be a mapping"),
    ],
)
def test_a_mistake_in_a_yaml_file_is_named(capsys, tmp_path, content, reason):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    told = failure(capsys, "train", "--config", str(path), "--data", "d", "--run", "r")
    assert reason in told


def test_an_unknown_preset_is_named_with_those_there_are(capsys):
    told = failure(capsys, "train", "--config", "conformer_xl", "--data", "d", "--run", "r")
    assert "conformer_s, conformer_m, conformer_l, conformer_s_transducer, " in told
    assert "fsdd_digits, people, people_recorded, quickstart; got conformer_xl" in told


@pytest.mark.parametrize("name", ["fsdd_digits", "quickstart"])
def test_what_is_shipped_is_valid(config_of, name):
    preset = ("--config", name)
    assert config_of("train", *preset, "--data", "d", "--run", "r").steps > 0
    assert config_of("study", *preset, "--data", "d", "--run", "r").draws > 0
    prepare = config_of("prepare", *preset, "--source", "s", "--out", "o")
    assert prepare.out == Path("o")
    federate = config_of("federate", *preset, "--data", "d", "--run", "r", "--out", "o")
    assert federate.rounds > 0


def test_files_to_transcribe_are_positional(config_of):
    config = config_of("transcribe", "--model", "m", "a.wav", "b,c.wav")
    assert config.files == (Path("a.wav"), Path("b,c.wav"))


def test_help_and_wrong_options_need_no_tensorflow():
    command = [sys.executable, "-c", IMPORTS]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_the_description_for_programs_is_all_that_is_printed(capsys):
    assert main(["describe", "--config", "tiny", "--json"]) == 0
    output = capsys.readouterr()
    assert set(json.loads(output.out)) >= {"total", "conformer", "modules"}
    assert output.err == ""


def test_a_choice_that_is_none_is_told_with_those_there_are(capsys):
    told = failure(capsys, "prepare", "--corpus", "foo", "--source", "s", "--out", "o")
    assert told.startswith("tfasr prepare: --corpus takes one of librispeech, kaldi, csj, manifest")
    assert "; got foo (see" in told


def test_a_list_with_spaces_is_told_how_to_write_it(capsys):
    told = failure(capsys, "prepare", "--corpus", "kaldi", "--out", "o", "--subsets", "a", "b")
    assert "unrecognized arguments: b; lists are written with commas, as in a,b" in told
