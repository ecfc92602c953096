"""Library errors about missing inputs name the field of the config, where a config is known."""

import pathlib
import re

import pytest

from retrieval.common.errors import DataError
from retrieval.config.remedies import REMEDIES, naming_fields
from retrieval.config.schema import Config, Data, Split
from retrieval.data.dataset import load
from retrieval.data.interactions import Interactions
from retrieval.data.splits import split

ROOT = pathlib.Path(__file__).parents[2]


def test_a_remedy_is_added_once_and_other_errors_stay():
    @naming_fields()
    def outer():
        with naming_fields():
            raise DataError("no ratings", needed="ratings")

    with pytest.raises(DataError, match="^no ratings; name their column in data.columns.rating$"):
        outer()
    with pytest.raises(DataError, match="^line 3$"), naming_fields():
        raise DataError("line 3")


def test_whoever_has_a_config_is_told_the_field_and_whoever_has_not_the_argument(tmp_path):
    with pytest.raises(DataError, match="timestamps, and the interactions have none$"):
        split(Interactions([1, 2], [1, 2]), "temporal", test_fraction=0.5, validation_fraction=0.0, seed=0)
    (tmp_path / "events.csv").write_text("user_id,item_id\n1,1\n2,2\n")
    data = Data(interactions=str(tmp_path / "events.csv"), split=Split("temporal"))
    with pytest.raises(DataError, match="have none; name their column in data.columns.timestamp"):
        load(data)


def test_every_needed_input_has_a_remedy_whose_field_exists():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "retrieval").rglob("*.py")]
    needed = {name for text in sources for name in re.findall(r'needed="(\w+)"', text)}
    assert needed == set(REMEDIES)
    for remedy in REMEDIES.values():
        value = Config()
        for name in re.search(r"data(?:\.\w+)+", remedy)[0].split("."):
            value = getattr(value, name)
