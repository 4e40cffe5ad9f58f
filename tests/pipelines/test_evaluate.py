import math
from dataclasses import replace

import pytest
import tensorflow as tf

from pipelines.cli import main
from tfasr.artifacts.files import read_json, read_json_lines
from tfasr.configs.corpora import TokenizerConfig
from tfasr.configs.model import DecoderConfig, EncoderConfig, ModelConfig
from tfasr.data.pipelines import evaluation_batches
from tfasr.data.prepared import PreparedData
from tfasr.decoding.greedy import detokenize, greedy_tokens
from tfasr.preparation.preparation import Preparation
from tfasr.text.tokenizer import Tokenizer, train_tokenizer
from tfasr.training.checkpoints import Progress
from tfasr.training.run import Run

KEYS = {"utterance_id", "reference", "text", "speaker", "domain"}


@pytest.fixture(scope="module")
def make_run(tmp_path_factory, tiny_config, tiny_data, noise):
    """Makes a run that babbles, with so many decoder blocks in either direction."""

    def make(left=1, right=1, seed=0):
        folder = tmp_path_factory.mktemp("runs") / f"run{left}{right}{seed}"
        encoder = EncoderConfig(num_blocks=1, dim=8, num_heads=2, conv_kernel=3, norm_groups=2)
        decoder = DecoderConfig(
            num_blocks_left=left, num_blocks_right=right, num_heads=2, ff_units=8
        )
        config = tiny_config(folder, model=ModelConfig(encoder=encoder, decoder=decoder))
        run = Run.create(config, tiny_data)
        model = run.initial_model()
        for number, variable in enumerate(model.trainable_variables):
            variable.assign_add(0.5 * noise(*variable.shape, seed=100 * seed + number))
        run.checkpoints.save(
            tf.train.Checkpoint(model=model), Progress(step=3, validation={"wer": 1.0})
        )
        return run

    return make


@pytest.fixture(scope="module")
def run(make_run):
    return make_run()


@pytest.fixture(scope="module")
def arpa(tmp_path_factory, tiny_data):
    path = tmp_path_factory.mktemp("lm") / "tones.arpa"
    assert main(["lm", "--source", str(tiny_data.folder), "--out", str(path)]) == 0
    return path


@pytest.fixture
def evaluated(tiny_data, tmp_path):
    """Runs the stage; returns what it wrote."""

    def evaluate(*arguments):
        out = tmp_path / "out"
        given = ["--data", tiny_data.folder, "--out", out, *arguments]
        assert main(["evaluate", *map(str, given)]) == 0
        return read_json(out / "evaluation.json"), read_json_lines(out / "hypotheses.jsonl")

    return evaluate


@pytest.fixture
def refused(capsys, tiny_data, tmp_path):
    """Runs the stage; returns the one line that it says."""

    def refuse(*arguments):
        capsys.readouterr()
        given = ["--data", tiny_data.folder, "--out", tmp_path / "out", *arguments]
        assert main(["evaluate", *map(str, given)]) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return told

    return refuse


@pytest.fixture(scope="module")
def greedy(run, tiny_data):
    """What the stage writes to its default folder when nothing is said of a decoder."""
    arguments = ["--run", run.folder, "--data", tiny_data.folder]
    assert main(["evaluate", *map(str, arguments)]) == 0
    out = run.folder / f"evaluation-{tiny_data.folder.name}-test"
    return read_json(out / "evaluation.json"), read_json_lines(out / "hypotheses.jsonl")


def test_a_run_is_decoded_greedily(run, tiny_data, greedy):
    figures, rows = greedy
    assert figures["decoder"] == {"kind": "greedy"}
    model, texts = run.trained_model(), {}
    batches = evaluation_batches(
        tiny_data.source("test"), tiny_data.durations("test"), extractor=run.extractor
    )
    for batch in batches:
        logits = model(batch["features"], batch["num_frames"])
        tokens = greedy_tokens(logits, model.encoded_frames(batch["num_frames"]))
        heard = detokenize(tokens, run.tokenizer.pieces).numpy()
        texts |= dict(zip(batch["id"].numpy(), heard, strict=True))
    found = {row["utterance_id"].encode(): row["text"].encode() for row in rows}
    assert found == texts
    assert any(texts.values())


def test_hypotheses_are_in_the_order_of_the_manifest(tiny_data, greedy):
    assert [set(row) for row in greedy[1]] == [KEYS] * 6
    ids = [row["id"] for row in tiny_data.manifest("test")]
    assert [row["utterance_id"] for row in greedy[1]] == ids


def test_speed_is_written(greedy):
    assert greedy[0]["characters_per_second"] > 0


def test_lists_have_scores_and_word_times(run, evaluated, arpa):
    options = "--decoder.kind prefix_beam --decoder.nbest 3 --decoder.lm_weight 0.5".split()
    figures, rows = evaluated("--run", run.folder, *options, "--decoder.lm", arpa)
    assert figures["decoder"]["lm"] == str(arpa)
    for row in rows:
        assert set(row) == KEYS | {"nbest"}
        assert row["nbest"][0]["text"] == row["text"]
        scores = [found["score"] for found in row["nbest"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        for found in row["nbest"]:
            assert " ".join(word for word, _, _ in found["words"]) == found["text"]
            assert all(0 <= start < end <= 0.8 for _, start, end in found["words"])
    assert any(row["nbest"][0]["words"] for row in rows)


def test_rescoring_writes_texts(run, evaluated, capsys):
    figures, rows = evaluated("--run", run.folder, "--decoder.kind", "rescoring")
    assert (figures["decoder"]["ctc_weight"], figures["decoder"]["reverse_weight"]) == (0.5, 0.3)
    assert any(row["text"] for row in rows)
    speed = f"{figures['characters_per_second']:,.0f} characters per second"
    assert speed in capsys.readouterr().out


def test_an_attention_decoder_is_tuned(run, evaluated, capsys, arpa):
    options = ["--decoder.kind", "attention", "--decoder.lm", arpa, "--decoder.tune"]
    figures, rows = evaluated("--run", run.folder, *options)
    tuning = figures["tuning"]
    assert set(tuning["weights"]) == {"lm_weight", "insertion_bonus"}
    assert {name: figures["decoder"][name] for name in tuning["weights"]} == tuning["weights"]
    assert tuning["wer"] <= tuning["wer_before"]
    assert "tuned on 6 validation utterances, best of 42 settings" in capsys.readouterr().out
    assert any(row["text"] for row in rows)


def test_an_ensemble_is_named_by_its_runs(run, make_run, tiny_data, evaluated):
    other = make_run(0, 0, seed=1)
    given = ["--data", tiny_data.folder, "--run", run.folder, "--run", other.folder]
    options = "--decoder.kind prefix_beam --decoder.beam 3".split()
    assert main(["evaluate", *map(str, given), *options]) == 0
    out = run.folder / f"evaluation-{tiny_data.folder.name}-test-prefix_beam-with-run001"
    assert math.isfinite(read_json(out / "evaluation.json")["wer"])
    together = read_json_lines(out / "hypotheses.jsonl")
    assert len(together) == 6


def test_a_run_without_a_decoder_is_named(tiny_run, refused):
    told = refused("--run", tiny_run.folder, "--decoder.kind", "attention")
    assert f"{tiny_run.folder}: decoder.kind=attention needs a model with" in told


def test_a_run_without_a_right_decoder_is_named(make_run, refused):
    left = make_run(1, 0)
    told = refused("--run", left.folder, "--decoder.kind", "rescoring")
    assert f"{left.folder}: reverse_weight needs a decoder from right to left" in told
    assert "got reverse_weight=0.3, give --decoder.reverse_weight 0" in told


def test_a_language_model_of_other_tokens_is_named(tiny_run, refused, tmp_path):
    (tmp_path / "text").write_text("x y z\n")
    train_tokenizer(["xx yy zz"], TokenizerConfig(kind="char"), tmp_path / "t.model")
    made = ["--source", tmp_path / "text", "--tokenizer", tmp_path / "t.model", "--order", 1]
    path = tmp_path / "other.arpa"
    assert main(["lm", *map(str, made), "--out", str(path)]) == 0
    told = refused("--run", tiny_run.folder, "--decoder.kind", "prefix_beam", "--decoder.lm", path)
    assert f"{path}: a language model of another vocabulary" in told


def test_runs_of_different_tokenizers_are_named(
    tmp_path, run, refused, prepare_config, write_corpus, tiny_config
):
    config = prepare_config(write_corpus(tmp_path / "corpus", train=6), tmp_path / "data")
    config = replace(config, tokenizer=TokenizerConfig(kind="bpe", vocabulary=6))
    Preparation(config).run(lambda done, total: None)
    other = Run.create(tiny_config(tmp_path / "other"), PreparedData(config.out))
    pieces = Tokenizer(run.folder / "tokenizer.model").vocabulary
    told = refused("--run", f"{run.folder},{other.folder}", "--decoder.kind", "prefix_beam")
    assert f"got {run.folder} with {pieces} pieces and {other.folder} with 6" in told
