"""The reference of the options: each is listed with its meaning, and each has a user."""

from experiments.config_reference import page, shipped
from retrieval.config.fields import field_types
from retrieval.config.reference import entries, set_by
from retrieval.config.schema import ADDITIONS, Addition, Config, Feature, Task
from retrieval.config.users import USERS

LIMIT = 95  # settable paths; merge or remove an option before adding one


def test_there_are_few_options():
    assert len(field_types(Config)) <= LIMIT


def test_every_option_has_a_meaning_and_a_shipped_config_or_another_user():
    users = set_by(shipped())
    for entry in entries(Config()):
        assert entry.declared.meaning.endswith("."), entry.path
        assert bool(users[entry.path]) != (entry.path in USERS), f"{entry.path} needs one kind of user"
    assert USERS.keys() <= users.keys()
    for section in (Feature(), Task(), Addition(), *(cls() for cls in ADDITIONS.values())):
        assert all(entry.declared.meaning.endswith(".") for entry in entries(section))


def test_the_page_lists_every_option_with_type_default_range_choices_and_users():
    lines = page().splitlines()
    for entry in (entry for entry in entries(Config()) if "." in entry.path):
        assert sum(line.startswith(f"| `{entry.path}` |") for line in lines) == 1
    line = next(line for line in lines if line.startswith("| `optimizer.warmup` |"))
    assert "| a number | `0.0` | 0 or more, below 1 |" in line and "`my_sequences`" in line
    line = next(line for line in lines if line.startswith("| `loss.reduction` |"))
    assert "| text | `'sum'` | `sum`, `mean` |" in line
    assert any(line.startswith("| `half_life` |") for line in lines)
