import pytest

from scmimic.model.base._plan import cosine_tail, linear_warmup


def test_cosine_tail():
    factors = [cosine_tail(e, 10, final_factor=0.1, fraction=0.4) for e in range(12)]
    assert factors[:7] == [1] * 7
    assert factors[8] == pytest.approx(0.55)
    assert factors[10:] == pytest.approx([0.1, 0.1])
    assert cosine_tail(9, 10, final_factor=1, fraction=0.4) == 1


def test_linear_warmup():
    assert [linear_warmup(p, 2) for p in (0, 1, 2, 9)] == [0, 0.5, 1, 1]
    assert linear_warmup(0, 0) == 1
