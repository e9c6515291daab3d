"""The images of colored shapes that the demo draws."""

import numpy as np
import pytest

from app.data.colored_shapes import CLASSES, draw_shape, write_shapes
from app.errors import DataError


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}


def test_the_same_seed_draws_the_same_images(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        write_shapes(tmp_path / name, train=2, test=1, seed=seed)
    one, same, other = (content(tmp_path / name) for name in ("one", "same", "other"))
    assert len(one) == len(set(one.values())) == 3 * len(CLASSES)
    assert one == same
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())


def test_images_that_were_drawn_before_stay(tmp_path):
    write_shapes(tmp_path / "shapes", train=1, test=1)
    before = content(tmp_path / "shapes")
    write_shapes(tmp_path / "shapes", train=2, test=2, seed=1)
    assert content(tmp_path / "shapes") == before
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match="or not exist. Received: a folder without train/blue"):
        write_shapes(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="shapes cannot be written: "):
        write_shapes(tmp_path / "file" / "shapes")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("seed", range(5))
def test_classes_differ_in_color_and_shape_alone(seed):
    ball, other, square = (
        draw_shape(name, np.random.default_rng(seed)).astype(int)
        for name in ("red ball", "green ball", "red square")
    )
    inside = (ball != other).any(axis=2)
    assert 0.02 < inside.mean() < 0.4
    assert (ball - other)[inside][:, 0].mean() > 20
    assert (ball - other)[inside][:, 1].mean() < -20
    changed = (square != ball).any(axis=2)
    assert changed[inside].mean() > 0.05
    # The corners of the square lie on the outline of the ball.
    assert changed[~inside].mean() < 0.01
