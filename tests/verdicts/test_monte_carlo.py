"""The measure of the simulations themselves: what is chance passes, what is not fails."""

from monte_carlo import is_at_least, is_at_most


def test_a_share_is_told_from_chance() -> None:
    assert is_at_most(5, 100, 0.05)
    assert is_at_most(13, 100, 0.05), "a probability of 0.001 is chance"
    assert not is_at_most(16, 100, 0.05)
    assert is_at_least(95, 100, 0.95)
    assert not is_at_least(84, 100, 0.95)
