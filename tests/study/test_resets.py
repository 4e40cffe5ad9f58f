import pytest

from tfasr.models.layout import Layout
from tfasr.study.resets import Reset, each_block, each_module, each_pair, growing_sets


@pytest.fixture(scope="module")
def layout(tiny_run):
    return Layout(tiny_run.initial_model())


@pytest.mark.parametrize(
    ("reset", "name"),
    [
        (Reset((3,)), "block-3"),
        (Reset((3,), "attention"), "block-3-attention"),
        (Reset((3, 15)), "blocks-3-15"),
    ],
)
def test_a_reset_is_named_for_files(reset, name):
    assert reset.name == name


@pytest.mark.parametrize("blocks", [(), (1, 0), (1, 1)])
def test_blocks_that_do_not_rise_are_refused(blocks):
    with pytest.raises(ValueError, match="blocks must be some, each once, rising; got blocks="):
        Reset(blocks)


def test_a_module_of_two_blocks_is_refused():
    with pytest.raises(ValueError, match=r"one block at a time; got .*module=attention"):
        Reset((0, 1), "attention")


def test_a_block_is_all_its_variables(layout):
    assert Reset((1,)).entries(layout) == layout.of_block(1)


def test_blocks_together_are_the_variables_of_each(layout):
    assert Reset((0, 1)).entries(layout) == [*layout.of_block(0), *layout.of_block(1)]


def test_a_module_is_its_variables(layout):
    entries = Reset((1,), "attention").entries(layout)
    assert entries
    assert {(entry.block, entry.module) for entry in entries} == {(1, "attention")}


@pytest.mark.parametrize("reset", [Reset((0, 9)), Reset((0,), "soul")])
def test_a_part_that_the_model_lacks_is_named(layout, reset):
    with pytest.raises(ValueError, match=f"the model has no {reset.name}; it has 2 blocks"):
        reset.entries(layout)


def test_each_block_stands_alone(layout):
    assert each_block(layout) == [Reset((0,)), Reset((1,))]


def test_the_modules_of_a_block_are_all_of_it(layout):
    modules = [reset for reset in each_module(layout) if reset.blocks == (0,)]
    entries = [entry for reset in modules for entry in reset.entries(layout)]
    assert sorted(e.name for e in entries) == sorted(e.name for e in layout.of_block(0))
    assert len(modules) == len(layout.modules) >= 5


def test_pairs_are_each_two_blocks(layout):
    assert each_pair(layout) == [Reset((0, 1))]


def test_sets_grow_in_the_order_given_and_name_their_blocks_upwards():
    assert growing_sets([4, 1, 3]) == [Reset((4,)), Reset((1, 4)), Reset((1, 3, 4))]
