import pytest

from tfasr.audio.subsets import require_apart, split_of_subset


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("train-clean-100", "train"),
        ("train_nodev", "train"),
        ("Train_Si284", "train"),
        ("cv-valid-train", "train"),
        ("validated", "train"),
        ("dev", "valid"),
        ("dev-other", "valid"),
        ("valid", "valid"),
        ("validation", "valid"),
        ("val2", "valid"),
        ("cv_dev", "valid"),
        ("train_dev", "valid"),
        ("test_dev93", "valid"),
        ("test", "test"),
        ("test-clean", "test"),
        ("test_eval92", "test"),
        ("eval1", "test"),
        ("cv-valid-test", "test"),
    ],
)
def test_the_name_tells_the_split(name, split):
    assert split_of_subset(name) == split


@pytest.mark.parametrize("name", ["callhome", "other", "invalidated", "lang", "value"])
def test_a_name_that_does_not_tell_is_named_with_the_rule(name):
    message = f"train, dev, valid, test or eval; got {name} "
    with pytest.raises(ValueError, match=message):
        split_of_subset(name)


def test_an_excerpt_beside_the_whole_is_refused():
    subsets = {"train": {"a", "b", "c", "d"}, "train_short": {"b", "c"}, "test": {"e"}}
    message = "train and train_short share 2 of 2, such as b .*there are train, train_short, test"
    with pytest.raises(ValueError, match=message):
        require_apart(subsets)


def test_a_single_id_in_common_is_left_to_the_listing():
    require_apart({"train": {"a", "b", "c"}, "test": {"c", "d"}})
