import gzip

import pytest

from pipelines.cli import main
from tfasr.artifacts.files import read_json
from tfasr.configs.corpora import TokenizerConfig
from tfasr.data.prepared import PreparedData
from tfasr.decoding.ngram import NgramModel, perplexity
from tfasr.preparation.preparation import Preparation
from tfasr.text.arpa import arpa_words
from tfasr.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture
def lm(tmp_path, capsys):
    """Runs the stage; returns the exit code and what it said."""

    def train(*arguments, out="lm.arpa"):
        capsys.readouterr()
        code = main(["lm", "--out", str(tmp_path / out), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.err or said.out

    return train


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "tokenizer.model"
    train_tokenizer(["one two", "two ones"], TokenizerConfig(kind="char"), path)
    return path


def test_prepared_data_are_cut_by_their_own_tokenizer(lm, tiny_data, tmp_path):
    assert lm("--source", tiny_data.folder, "--order", 2)[0] == 0
    tokenizer = Tokenizer(tiny_data.tokenizer)
    words = arpa_words(tokenizer.pieces)
    model = NgramModel.load(tmp_path / "lm.arpa", words)
    assert model.order == 2
    valid = [row["text"] for row in tiny_data.manifest("valid")]
    sentences = [[words[token] for token in tokenizer.encode(text)] for text in valid]
    figures = read_json(tmp_path / "lm.arpa.json")
    assert figures["valid_perplexity"] == pytest.approx(perplexity(model, sentences))
    assert figures["valid_sentences"] == 6


def test_orders_and_perplexity_are_printed(lm, tiny_data):
    told = lm("--source", tiny_data.folder, "--order", 2)[1].splitlines()
    assert told[0].split() == ["order", "n-grams", "kept", "discounts"]
    assert [line.split()[0] for line in told[1:3]] == ["1", "2"]
    assert told[3].startswith("perplexity ")
    assert told[3].endswith(" a token and end, on 6 validation sentences")


def test_withheld_domains_are_left_out(lm, tmp_path, write_corpus, prepare_config):
    corpus = write_corpus(tmp_path / "corpus", train=6, valid=2)
    config = prepare_config(corpus, tmp_path / "data", withheld_domains=("phone",))
    Preparation(config).run(lambda done, total: None)
    assert lm("--source", config.out, "--unit", "word", "--order", 1)[0] == 0
    rows = PreparedData(config.out).manifest("train")
    heard = {word for row in rows if row["domain"] == "close" for word in row["text"].split()}
    lines = (tmp_path / "lm.arpa").read_text().splitlines()
    words = {line.split("\t")[1] for line in lines if "\t" in line}
    assert words - {"<unk>", "<s>", "</s>"} == heard


@pytest.mark.parametrize("name", ["text", "text.gz"])
def test_a_text_is_normalised(lm, tmp_path, name):
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "wt", encoding="utf-8") as handle:
        handle.write("One  TWO\n\ntwo ones\n")
    assert lm("--source", tmp_path / name, "--unit", "word", "--order", 1)[0] == 0
    model = NgramModel.load(tmp_path / "lm.arpa", ["one", "two", "ones"])
    assert model.num_words == 6


def test_a_model_has_every_piece(lm, tmp_path, tokenizer):
    (tmp_path / "text").write_text("two\n")
    given = ("--source", tmp_path / "text", "--tokenizer", tokenizer, "--order", 1)
    assert lm(*given)[0] == 0
    NgramModel.load(tmp_path / "lm.arpa", arpa_words(Tokenizer(tokenizer).pieces))


def test_a_model_that_is_there_is_not_trained_again(lm, tmp_path, tiny_data):
    given = ("--source", tiny_data.folder, "--order", 2)
    first = lm(*given)[1]
    before = (tmp_path / "lm.arpa").stat().st_mtime_ns
    code, told = lm(*given)
    assert (code, told) == (0, f"{tmp_path / 'lm.arpa'}: already trained\n{first}")
    assert (tmp_path / "lm.arpa").stat().st_mtime_ns == before


def test_a_model_of_other_settings_is_not_replaced(lm, tiny_data):
    lm("--source", tiny_data.folder, "--order", 2)
    code, told = lm("--source", tiny_data.folder, "--order", 1)
    assert code == 1
    assert "other settings; got order=1, there it is 2. Choose another --out" in told


def test_a_file_that_is_no_model_of_ours_is_not_replaced(lm, tmp_path, tiny_data):
    (tmp_path / "lm.arpa").write_text("mine\n")
    code, told = lm("--source", tiny_data.folder)
    assert code == 1
    assert "not made by `tfasr lm`" in told
    assert (tmp_path / "lm.arpa").read_text() == "mine\n"


def test_a_training_that_failed_leaves_no_model(lm, tmp_path, tokenizer):
    (tmp_path / "text").write_text("one\n")
    given = ("--source", tmp_path / "text", "--tokenizer", tokenizer)
    code, told = lm(*given, "--order", 2, "--prune", "0,9")
    assert code == 1
    assert f"{tmp_path / 'text'}: prune must leave n-grams of each order" in told
    assert not (tmp_path / "lm.arpa").exists()
    assert lm(*given, "--order", 1)[0] == 0


def test_text_without_a_tokenizer_is_named(lm, tmp_path):
    (tmp_path / "text").write_text("one\n")
    code, told = lm("--source", tmp_path / "text")
    assert code == 1
    assert f"{tmp_path / 'text'}: is no folder made by" in told
    assert "needs a --tokenizer" in told


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing", None, "missing: no such file"),
        ("text", b"one\n\xff\n", "text:2: must be UTF-8"),
        ("text.gz", b"one\n", "text.gz: the .gz file is damaged; Not a gzipped file"),
        ("text.gz", gzip.compress(b"one two\n", mtime=0)[:-9], "text.gz: the .gz file is damaged"),
        ("text", b"\n\n", "text: a language model needs training text; got 2 lines, all empty"),
    ],
)
def test_a_source_that_can_t_be_read_is_named(lm, tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, said = lm("--source", tmp_path / name, "--unit", "word", "--order", 1)
    assert code == 1
    assert said.startswith(f"tfasr lm: {tmp_path}/{told}")
    assert said.count("\n") == 1
