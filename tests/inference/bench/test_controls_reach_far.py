"""The controls go down to a quarter of the steps, and fewer_steps is measured like the rest."""

from inference.bench.variants import fewer, variants


def test_controls_go_down_by_eighths_to_a_quarter() -> None:
    assert fewer(8) == [8, 7, 6, 5, 4, 3, 2]
    assert fewer(28)[-1] == 7
    assert fewer(1) == [1]


def test_a_control_of_fewer_steps_is_held_against_its_declared_loss_alone() -> None:
    found = {variant.name: variant for variant in variants(8)}
    assert found["fewer_steps"].control == ""
    assert found["taylor"].control == "plain"
    assert found["fast"].control == "exact"
    assert {"plain, 2 steps", "exact, 2 steps"} <= set(found)


def test_what_is_not_asked_for_is_left_out_but_the_controls() -> None:
    names = {variant.name for variant in variants(8, ["fewer_steps", "fast"])}
    assert {"fewer_steps", "fast", "exact", "plain, 3 steps", "exact, 3 steps"} <= names
    assert not names & {"taylor", "high"}
