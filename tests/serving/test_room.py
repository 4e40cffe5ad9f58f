import pytest

from tfasr.serving.errors import Overloaded
from tfasr.serving.room import Room


def room(limit=3, seconds=7.2):
    return Room(limit, "utterances", lambda: seconds)


def test_room_is_given_back_even_after_an_error():
    filled = room()

    def fail():
        with filled.held(2) as hold:
            hold.grow(1)
            assert filled.used == 3
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert filled.used == 0


def test_what_has_no_room_is_refused_with_the_reason_and_takes_none():
    filled = room()
    with filled.held(2), pytest.raises(Overloaded, match="holds 2 of 3 utterances") as refusal:
        filled.held(2).__enter__()
    assert refusal.value.retry_after == 8
    assert filled.used == 0


@pytest.mark.parametrize(("seconds", "after"), [(0.0, 1), (0.4, 1), (1e9, 60)])
def test_the_time_to_come_again_is_between_a_second_and_a_minute(seconds, after):
    assert Overloaded("full", retry_seconds=seconds).retry_after == after
