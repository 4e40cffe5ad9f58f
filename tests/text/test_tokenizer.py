import pytest

from tfasr.configs.corpora import TokenizerConfig
from tfasr.text.tokenizer import UNKNOWN, Tokenizer, copy_tokenizer, train_tokenizer

TEXTS = [
    "turn the light on",
    "turn off the heating in the kitchen",
    "what is the weather like",
    "play a song in the kitchen",
    "what time is it",
] * 3
CONFIGS = [
    TokenizerConfig(kind="unigram", vocabulary=30),
    TokenizerConfig(kind="bpe", vocabulary=40),
    TokenizerConfig(kind="char", vocabulary=40),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.kind)
def config(request):
    return request.param


@pytest.fixture
def tokenizer(config, tmp_path):
    train_tokenizer(TEXTS, config, tmp_path / "tokenizer.model")
    return Tokenizer(tmp_path / "tokenizer.model")


def test_text_comes_back_from_its_tokens(tokenizer):
    text = "the kitchen is what it is like"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_tokens_lie_within_the_vocabulary(tokenizer):
    tokens = {token for text in TEXTS for token in tokenizer.encode(text)}
    assert max(tokens) < tokenizer.vocabulary
    assert min(tokens) > UNKNOWN


def test_empty_text_has_no_tokens(tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_a_letter_never_seen_is_the_unknown_token(tokenizer):
    assert UNKNOWN in tokenizer.encode("täxi")


def test_text_is_encoded_as_it_is(tokenizer):
    assert tokenizer.encode("\uff54") == tokenizer.encode("語")


def test_pieces_spell_the_text(tokenizer):
    spelt = "".join(tokenizer.pieces[token] for token in tokenizer.encode("turn the light on"))
    assert spelt.replace("▁", " ").strip() == "turn the light on"


def test_there_is_a_piece_for_each_token(tokenizer):
    assert len(tokenizer.pieces) == tokenizer.vocabulary
    assert tokenizer.pieces[UNKNOWN] == " ⁇ "


def test_the_same_text_gives_the_same_model(config, tmp_path):
    for name in ("one", "two"):
        train_tokenizer(TEXTS, config, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_vocabulary_has_the_size_asked_for(tmp_path):
    for config in (CONFIGS[0], CONFIGS[1]):
        train_tokenizer(TEXTS, config, tmp_path / config.kind)
        assert Tokenizer(tmp_path / config.kind).vocabulary == config.vocabulary


def test_a_vocabulary_of_characters_has_each_letter_the_space_and_the_unknown(tmp_path):
    train_tokenizer(["abba", "c a"], CONFIGS[2], tmp_path / "m")
    assert sorted(Tokenizer(tmp_path / "m").pieces[1:]) == ["a", "b", "c", "▁"]


def test_no_text_is_named(config, tmp_path):
    with pytest.raises(ValueError, match="needs training text; got 2 transcripts, all empty"):
        train_tokenizer(["", ""], config, tmp_path / "m")


@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_a_vocabulary_of_other_kinds_than_bpe_is_an_upper_limit(tmp_path, kind):
    train_tokenizer(TEXTS, TokenizerConfig(kind=kind, vocabulary=5000), tmp_path / "m")
    letters = set("▁".join(TEXTS).replace(" ", "▁"))
    assert len(letters) < Tokenizer(tmp_path / "m").vocabulary < 100


@pytest.mark.parametrize(("kind", "vocabulary"), [("unigram", 3), ("bpe", 3), ("bpe", 5000)])
def test_a_vocabulary_that_cannot_be_made_is_named(tmp_path, kind, vocabulary):
    config = TokenizerConfig(kind=kind, vocabulary=vocabulary)
    message = rf"tokenizer\.vocabulary={vocabulary} {kind} pieces of 15 transcripts; it says: "
    with pytest.raises(ValueError, match=message):
        train_tokenizer(TEXTS, config, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.model: no such tokenizer"):
        Tokenizer(tmp_path / "none.model")


@pytest.mark.parametrize("content", [b"no model", b"", b"\x00" * 100])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.model: must be a SentencePiece model"):
        Tokenizer(tmp_path / "a.model")


def test_a_model_that_was_cut_off_is_named(tmp_path):
    train_tokenizer(TEXTS, CONFIGS[0], tmp_path / "a.model")
    (tmp_path / "a.model").write_bytes((tmp_path / "a.model").read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"a\.model: must be a SentencePiece model"):
        Tokenizer(tmp_path / "a.model")


def test_a_copied_model_encodes_alike(tokenizer, tmp_path):
    copy_tokenizer(tmp_path / "tokenizer.model", tmp_path / "copy" / "tokenizer.model")
    copied = Tokenizer(tmp_path / "copy" / "tokenizer.model")
    assert [copied.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_what_is_no_model_is_not_copied(tmp_path):
    (tmp_path / "words.txt").write_text("turn\nthe\nlight\non\n")
    with pytest.raises(ValueError, match=r"words\.txt: must be a SentencePiece model"):
        copy_tokenizer(tmp_path / "words.txt", tmp_path / "tokenizer.model")
    assert not (tmp_path / "tokenizer.model").exists()
