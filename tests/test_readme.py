"""What the README shows runs as it stands there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs_and_is_short(capsys):
    code = re.search(r"<!-- example -->\n```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 18
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert namespace["positions"].shape == (len(namespace["targets"].query_ids), 10)
    assert "excluding_seen/precision_at_10" in capsys.readouterr().out
    following = re.search(r"compares two:\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(following, "README.md", "exec"), namespace)
    assert "permutation_p" in capsys.readouterr().out


def test_every_file_that_the_readme_names_exists():
    for name in re.findall(r"(?:configs|retrieval|experiments)/[a-z_0-9]+\.py", README):
        assert (ROOT / name).is_file(), name


def test_every_field_that_the_readme_names_exists():
    from retrieval.config import Config, field_types

    fields = set(field_types(Config))
    for name in re.findall(r"--config\.([a-z_.]+)=", README):
        assert name in fields, name
