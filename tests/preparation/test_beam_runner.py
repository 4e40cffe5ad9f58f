from dataclasses import replace

import pytest

from tfasr.preparation.runners import open_runner


@pytest.fixture
def on_beam(config):
    return replace(config, runner="DirectRunner", out=config.out.with_name("beam"))


def test_beam_writes_the_same_bytes(config, on_beam, prepare, contents_of):
    assert contents_of(prepare(on_beam).folder) == contents_of(prepare(config).folder)


def test_beam_writes_what_another_runner_has_left(config, on_beam, prepare, interrupt, contents_of):
    interrupt(replace(config, out=on_beam.out), 4)
    for number in range(4):
        (config.source / "wav" / f"train-{number:02d}.wav").write_bytes(b"")
    assert prepare(on_beam).index["splits"]["train"]["utterances"] == 6


def test_an_error_on_beam_is_told_as_in_this_process(config, on_beam, prepare):
    (config.source / "wav" / "train-01.wav").write_bytes(b"")
    (config.source / "wav" / "test-00.wav").write_bytes(b"")
    told = []
    for each in (config, on_beam):
        with pytest.raises(ValueError, match="train-01") as raised:
            prepare(each)
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert not on_beam.out.exists()


def test_a_full_disk_on_beam_is_told(on_beam, prepare, no_file_over):
    with no_file_over(20_000), pytest.raises(OSError, match=r"train-00000\.tfrecord: must fit"):
        prepare(on_beam)


def test_a_runner_that_beam_has_not_is_refused_before_the_corpus_is_listed(on_beam, prepare):
    with pytest.raises(ValueError, match="runner must be one of Beam's; got FlinkRuner"):
        prepare(replace(on_beam, runner="FlinkRuner", source=on_beam.source / "nowhere"))


def test_a_wrong_option_is_refused(on_beam, capsys):
    with pytest.raises(ValueError, match=r"got --direct_num_workers=many: argument .*'many'$"):
        open_runner(replace(on_beam, runner_options=("--direct_num_workers=many",)))
    assert capsys.readouterr().err == ""


def test_a_pipeline_that_fails_is_told_in_one_line(on_beam, prepare):
    with pytest.raises(ValueError, match=r"PortableRunner: .*failed: .*--job_endpoint") as raised:
        prepare(replace(on_beam, runner="PortableRunner"))
    assert "\n" not in str(raised.value)
