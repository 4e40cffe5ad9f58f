from pathlib import Path

import pytest

from tfasr.configs.evaluation import DecodingConfig, EvaluateConfig

DATA, RUN = Path("data"), (Path("run"),)
LM = Path("lm.arpa")


def test_a_run_is_decoded_greedily_unless_something_else_is_said():
    assert EvaluateConfig(data=DATA, run=RUN).decoder.to_json() == {"kind": "greedy"}


def test_a_description_has_what_the_decoder_makes_use_of():
    config = DecodingConfig(kind="prefix_beam", beam=4, lm=LM, nbest=2)
    assert config.to_json() == {
        "kind": "prefix_beam",
        "token_beam": 10,
        "beam": 4,
        "lm": "lm.arpa",
        "lm_weight": 0.3,
        "insertion_bonus": 0.0,
    }


def test_a_weight_of_no_language_model_is_not_described():
    config = DecodingConfig(kind="rescoring")
    assert set(config.to_json()) == {
        *("kind", "token_beam", "beam", "insertion_bonus", "ctc_weight", "reverse_weight")
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beam": 0}, "beam must be at least 1; got beam=0"),
        ({"max_symbols": 0}, "max_symbols must be at least 1; got max_symbols=0"),
        ({"token_beam": 0}, "token_beam must be at least 1; got token_beam=0"),
        ({"lm": LM, "lm_weight": -1.0}, "must be finite and not negative; got lm_weight=-1.0"),
        ({"lm_weight": 0.5}, "lm_weight needs decoder.lm; got lm_weight=0.5"),
        ({"ctc_weight": float("inf")}, "must be finite and not negative; got ctc_weight=inf"),
        ({"insertion_bonus": float("nan")}, "must be finite; got insertion_bonus=nan"),
        ({"reverse_weight": 1.5}, "must be from 0 to 1; got reverse_weight=1.5"),
        ({"nbest": 11}, "nbest must be from 0 to beam; got nbest=11, beam=10"),
        ({"nbest": -1}, "got nbest=-1"),
    ],
)
def test_values_out_of_range_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        DecodingConfig(kind="rescoring", **options)


@pytest.mark.parametrize(
    ("kind", "option", "users"),
    [
        ("greedy", {"beam": 5}, "rescoring, transducer; got kind=greedy, beam=5"),
        ("greedy", {"lm": LM}, "got kind=greedy, lm=lm.arpa"),
        ("greedy", {"tune": True}, "got kind=greedy, tune=True"),
        ("attention", {"token_beam": 5}, "prefix_beam, rescoring, transducer; got kind=attention"),
        ("prefix_beam", {"ctc_weight": 0.1}, "rescoring; got kind=prefix_beam, ctc_weight=0.1"),
        ("attention", {"reverse_weight": 0.1}, "rescoring; got kind=attention"),
    ],
)
def test_options_that_would_do_nothing_are_refused(kind, option, users):
    with pytest.raises(ValueError, match=f"decoder.{next(iter(option))} is for .*{users}"):
        DecodingConfig(kind=kind, **option)


@pytest.mark.parametrize("given", [{}, {"run": RUN, "model": Path("m")}])
def test_either_a_run_or_a_model_is_evaluated(given):
    with pytest.raises(ValueError, match="one of --run and --model must be given, not both"):
        EvaluateConfig(data=DATA, **given)


def test_an_exported_model_has_its_own_decoder():
    with pytest.raises(ValueError, match=r"need --run; got decoder\.kind=prefix_beam"):
        EvaluateConfig(data=DATA, model=Path("m"), decoder=DecodingConfig(kind="prefix_beam"))


def test_an_ensemble_needs_lists():
    with pytest.raises(ValueError, match=r"kind=greedy has not; got 2 runs: choose prefix_beam"):
        EvaluateConfig(data=DATA, run=(Path("a"), Path("b")))


def test_a_run_is_in_an_ensemble_once():
    with pytest.raises(ValueError, match="must differ; got run=run repeatedly"):
        EvaluateConfig(data=DATA, run=RUN * 2, decoder=DecodingConfig(kind="prefix_beam"))


def test_weights_are_not_judged_by_what_they_were_chosen_on():
    decoder = DecodingConfig(kind="prefix_beam", tune=True)
    with pytest.raises(ValueError, match="another one must be evaluated; got split=valid"):
        EvaluateConfig(data=DATA, run=RUN, split="valid", decoder=decoder)


@pytest.mark.parametrize(
    "given", [{"run": (Path("r"),), "chunk": -1}, {"model": Path("m"), "chunk": 4}]
)
def test_a_chunk_is_for_a_run(given):
    with pytest.raises(ValueError, match=f"chunk must be at least 0.*; got chunk={given['chunk']}"):
        EvaluateConfig(data=Path("d"), **given)
