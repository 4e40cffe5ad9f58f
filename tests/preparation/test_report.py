import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from tfasr.artifacts.files import write_json, write_json_lines
from tfasr.configs.corpora import TokenizerConfig
from tfasr.preparation.report import write_report
from tfasr.text.tokenizer import train_tokenizer

MARKUP = "<script>alert(1)</script>"
NONE = "\N{EN DASH}"
FBANK = {"sample_rate": 8000, "num_mels": 8}
# Letters learned: e h n o r t w. The last two are too long and too short to train on.
TRAIN = [
    {"id": "t1", "duration": 2.0, "text": "one two", "speaker": "ada", "domain": "close"},
    {"id": "t2", "duration": 4.0, "text": "two two", "speaker": "bo", "domain": "close"},
    {"id": "t3", "duration": 30.0, "text": "three", "speaker": "cy", "domain": "phone"},
    {"id": "t4", "duration": 0.05, "text": "ee", "speaker": "", "domain": ""},
]
VALID = [{"id": "v1", "duration": 2.0, "text": "one öne four", "speaker": "ada", "domain": "close"}]
TEST = [{"id": "s1", "duration": 1.5, "text": "two <four> four", "speaker": "dee", "domain": "<b>"}]
SKIPPED = [
    "/data/train.jsonl:3: /data/a b.wav: no such file",
    "/data/train.jsonl:4: 'text' must not be empty; got ''",
    "/data/train.jsonl:9: 'text' must not be empty; got '<i>'",
    "/data/x.wav: must be audio that libsndfile reads; Format not recognised.",
]


def write_folder(
    folder, train=TRAIN, valid=VALID, test=TEST, *, skipped=(), withheld=(), tokenizer=True
):
    """Writes prepared data by hand, with a tokenizer of the training text's characters."""
    (folder / "shards").mkdir(parents=True)
    splits = {}
    for split, rows in {"train": train, "valid": valid, "test": test}.items():
        write_json_lines(folder / f"{split}.jsonl", rows)
        shards = [{"file": f"shards/{split}-00000.tfrecord"}] if rows else []
        splits[split] = {"utterances": len(rows), "shards": shards}
        if rows:
            (folder / shards[0]["file"]).write_bytes(bytes(500_000))
    if tokenizer:
        texts = [row["text"] for row in train]
        kind = TokenizerConfig(kind="char", vocabulary=64)
        train_tokenizer(texts, kind, folder / "tokenizer.model")
    index = {"sample_rate": 8000, "fbank": FBANK, "withheld_domains": list(withheld)}
    write_json(folder / "data.json", {**index, "splits": splits, "skipped": list(skipped)})
    settings = {
        "corpus": "manifest",
        "tokenizer": {"kind": "char"},
        "shards": {"withheld_domains": list(withheld), "compression": "gzip"},
    }
    write_json(folder / "settings.json", settings)
    return folder


class Reader(HTMLParser):
    """Reads a page's sections: their text, and the cells of their tables' rows."""

    def __init__(self, page):
        super().__init__()
        self.text, self.rows, self.ids, self.open = {"": ""}, {"": []}, [], []
        self.section = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag != "meta":
            self.open.append(tag)
        if tag == "h2":
            self.section = dict(attributes)["id"]
            self.text[self.section], self.rows[self.section] = "", []
        if tag == "tr":
            self.rows[self.section].append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data
        elif not {"style", "svg"} & set(self.open):
            self.text[self.section] += data


def report(folder, source="digits"):
    return Reader(write_report(folder, source).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data of the rows above with their page, which takes a second to draw."""
    folder = write_folder(tmp_path_factory.mktemp("report") / "data", skipped=SKIPPED)
    write_report(folder, MARKUP)
    return folder


@pytest.fixture(scope="module")
def html(folder):
    """The page."""
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    """The same, taken apart."""
    return Reader(html)


@pytest.fixture(scope="module")
def long_page(tmp_path_factory):
    """Of 5000 alike in training, and the same and one unseen word in validation."""
    row = {"duration": 1.08, "text": "one two", "speaker": "ada", "domain": "close"}
    rows = [{"id": f"t{number}", **row} for number in range(5000)]
    valid = [*rows, {**VALID[0], "text": "four"}]
    return report(write_folder(tmp_path_factory.mktemp("long") / "data", rows, valid))


@pytest.fixture(scope="module")
def crowded_page(tmp_path_factory):
    """Of 25 speakers with one slow utterance each."""
    row = {"text": "one", "domain": "close"}
    rows = [
        {"id": f"t{n:02d}", "duration": 10.0 + n, "speaker": f"s{n:02d}", **row} for n in range(25)
    ]
    return report(write_folder(tmp_path_factory.mktemp("crowd") / "data", rows, [], []))


@pytest.fixture(scope="module")
def other_page(tmp_path_factory):
    """Of speakers without a name, a withheld domain and eight skipped entries."""
    return report(
        write_folder(
            tmp_path_factory.mktemp("other") / "data",
            [{**row, "speaker": ""} for row in TRAIN],
            [{**VALID[0], "text": "one three", "speaker": ""}],
            skipped=[f"train.jsonl:{number}: must have text" for number in range(1, 9)],
            withheld=["phone"],
        )
    )


def column(reader, section, number):
    return {row[0]: row[number] for row in reader.rows[section]}


def test_a_split_is_counted_by_hand(page):
    assert column(page, "splits", 1) == {
        "": "train",
        "utterances": "4",
        "minutes": "0.60",  # 36.05 s
        "speakers": "3",
        "domains": "2",
        "words": "6",
        "distinct words": "4",
        "characters": "21",
        "tokens": "25",  # each text is given a space in front
        "tokens per second": "0.69",
        "shortest, s": "0.05",
        "median, s": "3.00",
        "longest, s": "30.00",
    }


def test_all_splits_are_taken_together(page):
    together = column(page, "splits", 4)
    names = ("utterances", "speakers", "distinct words")
    assert [together[name] for name in names] == ["6", "4", "7"]


def test_an_hour_and_more_is_told_in_hours(long_page):
    assert column(long_page, "splits", 1)["hours"] == "1.50"


def test_more_rows_than_are_read_at_once_are_all_counted(long_page):
    assert column(long_page, "splits", 1)["tokens"] == "40,000"


def test_a_small_share_is_told_from_none(long_page):
    assert long_page.rows["words"][1][:4] == ["valid", "10,001", "1", "< 0.1 %"]


def test_what_training_leaves_out_is_counted(page):
    said = "leaves out 1 utterance under 0.1 s and 1 over 20 s (50.0 % of the split train)"
    assert said in page.text["durations"]


def test_suspicious_rates_come_worst_first(page):
    rows = page.rows["rates"][1:]
    assert rows == [
        ["t3", "train", "30.00", "6", "0.20", "three"],  # 2.5 times under 0.5
        ["t4", "train", "0.05", "3", "60.00", "ee"],  # 2.4 times over 25
    ]


def test_only_ten_suspicious_utterances_are_shown(crowded_page):
    shown = [row[0] for row in crowded_page.rows["rates"][1:]]
    assert shown == [f"t{n}" for n in range(24, 14, -1)]
    assert "25 in train, 0 in valid, 0 in test" in crowded_page.text["rates"]


def test_what_ctc_cannot_align_is_shown_with_its_frames(page):
    # 400 samples hold 3 windows of 200 every 80, so 1 encoder frame; "▁ee" needs 3 and a blank.
    rows = page.rows["alignment"]
    assert rows[1:] == [["t4", "train", "0.05", "1", "4", "ee"]]


def test_unseen_words_are_counted(page):
    rows = page.rows["words"]
    assert rows[1:3] == [
        ["valid", "3", "2", "66.7 %", "3", "2", "66.7 %"],
        ["test", "3", "2", "66.7 %", "3", "2", "66.7 %"],
    ]


def test_the_most_frequent_unseen_words_come_first(page):
    rows = page.rows["words"]
    assert rows[4:] == [["four", "1", "1"], ["<four>", "0", "1"], ["öne", "1", "0"]]


def test_words_of_withheld_domains_are_not_learned(other_page):
    assert other_page.rows["words"][1][:3] == ["valid", "2", "1"]
    assert "withheld domains (phone)" in other_page.text["words"]


def test_unknown_tokens_are_counted(page):
    rows = page.rows["characters"]
    # SentencePiece makes one token of neighbours that it does not know, such as "<f".
    assert [row[:3] for row in rows[1:4]] == [
        ["train", "25", "0"],
        ["valid", "13", "3"],
        ["test", "15", "5"],
    ]


def test_unknown_characters_are_named(page):
    rows = page.rows["characters"]
    assert rows[5:] == [
        ["f U+0066", "latin small letter f", "0", "1", "2"],
        ["u U+0075", "latin small letter u", "0", "1", "2"],
        ["< U+003C", "less-than sign", "0", "0", "1"],
        ["> U+003E", "greater-than sign", "0", "0", "1"],
        ["ö U+00F6", "latin small letter o with diaeresis", "0", "1", "0"],
    ]


def test_speakers_on_two_sides_are_named(page):
    said = r"1 speaker both in training and held out.*: ada$"
    assert re.search(said, page.text["speakers"])


def test_unnamed_speakers_are_on_no_side(other_page):
    text = other_page.text["speakers"]
    assert text.endswith("No speaker of the training split is held out too.")


def test_time_is_told_by_domain_and_split(page):
    assert page.rows["domains"][1:] == [
        ["phone", "1", "0.50", NONE, NONE, "0.50", "75.9 %"],
        ["close", "3", "0.10", "0.03", NONE, "0.13", "20.2 %"],
        ["<b>", "1", NONE, NONE, "0.03", "0.03", "3.8 %"],
        ["not said", "1", "0.00", NONE, NONE, "0.00", "0.1 %"],
    ]


def test_speakers_beyond_the_first_twenty_are_summed_up(crowded_page):
    rows = crowded_page.rows["speakers"]
    assert rows[1][0] == "s24"
    # 10 + 11 + 12 + 13 + 14 = 60 of 550 s.
    assert rows[-1][:3] == ["5 others", "5", "1.00"]
    assert rows[-1][-1] == "10.9 %"


def test_skipped_entries_are_grouped_by_the_rule_they_broke(page):
    rows = page.rows["skipped"]
    assert rows[1:] == [
        ["'text' must not be empty", "2"],
        ["must be audio that libsndfile reads", "1"],
        ["no such file", "1"],
    ]


def test_the_first_skipped_entries_are_told_whole(other_page):
    text = other_page.text["skipped"]
    assert "train.jsonl:5: must have text" in text
    assert "train.jsonl:6" not in text
    assert "and 3 more" in text


def test_the_opening_links_to_all_that_stands_out(tmp_path):
    opening = report(write_folder(tmp_path / "data", test=[], skipped=SKIPPED)).text[""]
    for finding in (
        "5 utterances, 0.63 minutes, 8,000 Hz",
        "No utterance in test",
        "4 entries skipped",
        "2 utterances too short or too long for training's default limits",
        "2 utterances with suspiciously many or few tokens per second",
        "1 utterance that CTC cannot align",
        "3 characters that the tokenizer does not know",
        "1 speaker both in training and held out",
    ):
        assert finding in opening


def test_data_without_faults_is_said_to_have_none(tmp_path):
    rows = [{"id": "x", "duration": 2.0, "text": "one two", "speaker": "", "domain": ""}]
    opening = report(write_folder(tmp_path / "data", rows, rows, rows)).text[""]
    assert opening.endswith("Nothing stands out.")


def test_settings_tell_the_size_of_the_shards(page):
    settings = column(page, "settings", 1)
    assert settings["shards"] == "3 files, 1.5 MB"
    assert settings["compression"] == "gzip"
    # Seven letters, the space and the unknown piece.
    assert settings["tokenizer"] == "char, 9 pieces"


def test_markup_in_data_is_shown_and_not_obeyed(html):
    assert not re.search(r"<(script|b|i|four)>", html)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_the_page_loads_nothing(html):
    assert not re.search(r"<script|<link|<img|<iframe|@import|\ssrc=|url\(['\"]?http", html)


def test_names_within_the_page_are_given_once(page):
    assert len(page.ids) == len(set(page.ids))


def test_plots_take_the_colour_of_the_page(html):
    assert html.count("<svg ") == 2
    assert "currentColor" in html
    assert not re.search(r"(fill|stroke): (#000000|black)", html)


def test_the_same_data_make_the_same_page_at_the_same_place(folder, html):
    path = write_report(folder, MARKUP)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8") == html


def test_data_without_a_training_split_are_reported(tmp_path):
    page = report(write_folder(tmp_path / "data", [], tokenizer=False))
    assert column(page, "splits", 3)["words"] == "3"
    assert column(page, "splits", 3)["tokens"] == NONE
    assert "no training text" in page.text["words"]
    assert "no tokenizer" in page.text["rates"]


def test_a_broken_line_is_named(tmp_path):
    folder = write_folder(tmp_path / "data")
    with (folder / "valid.jsonl").open("a") as manifest:
        manifest.write(json.dumps({"id": "v2", "duration": "long", "text": "one"}) + "\n")
    with pytest.raises(ValueError, match=r"valid\.jsonl:2: must be .* got .*long"):
        write_report(folder, "digits")


def test_a_missing_field_is_named(tmp_path):
    folder = write_folder(tmp_path / "data", test=[{"id": "s1", "duration": 1.0}])
    with pytest.raises(ValueError, match=r"test\.jsonl:1: no 'text' field"):
        write_report(folder, "digits")


def test_a_missing_manifest_is_named(tmp_path):
    folder = write_folder(tmp_path / "data")
    (folder / "test.jsonl").unlink()
    with pytest.raises(ValueError, match=r"test\.jsonl: no such file"):
        write_report(folder, "digits")


def test_a_report_that_fails_leaves_the_one_before(folder, html, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "data")
    (broken / "shards" / "test-00000.tfrecord").unlink()
    with pytest.raises(ValueError, match="this shard is missing"):
        write_report(broken, MARKUP)
    assert (broken / "report.html").read_text(encoding="utf-8") == html


def test_a_folder_that_is_no_prepared_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="made by `tfasr prepare`"):
        write_report(tmp_path, "digits")
