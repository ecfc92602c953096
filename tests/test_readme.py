"""What the README shows runs as it stands there."""

import pathlib
import re

import numpy as np

import retrieval
from retrieval.config.fields import field_types
from retrieval.config.schema import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.features.entities import EntityFeatures
from retrieval.index import ExactIndex, LiveIndex
from retrieval.models.binding import init
from retrieval.serving import bundle

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
    fields = set(field_types(Config))
    for name in re.findall(r"--config\.([a-z_.]+)=", README):
        assert name in fields, name


def save_bundle(folder, config):
    """Writes a bundle of 50 users and 200 movies, untrained."""
    rng = np.random.default_rng(0)
    users, movies = np.repeat(np.arange(1, 51), 6), np.tile(np.arange(1, 201), 2)[:300]
    events = Interactions(users, rng.permutation(movies))
    columns = {
        "title": np.array([f"Movie {i}" for i in range(200)]),
        "genres": np.resize(["Comedy|Sci-Fi", "Sci-Fi"], 200),
    }
    columns |= {"release_date": np.full(200, "1990"), "release_year": np.linspace(1950, 2000, 200)}
    corpus = Table(np.arange(1, 201), columns)
    recipe = retrieval.prepare(config, events, corpus)
    params, encoders = init(recipe.model), recipe.architecture.candidate_features
    folder.parent.mkdir(parents=True)
    bundle.save(
        folder,
        model=recipe.bound(params),
        queries=recipe.encoding.queries,
        candidates=recipe.encoding.candidates,
        corpus=corpus,
        seen=recipe.encoding.seen_by_row(events),
        index=ExactIndex.build(np.asarray(recipe.candidate_embeddings(params))),
        facts={},
        candidate_features=EntityFeatures.of_table(encoders, corpus, recipe.encoding.candidates.entity_ids),
    )


def test_the_serving_examples_run(capsys, tmp_path, monkeypatch):
    save_bundle(tmp_path / "runs/movielens_100k/bundle", Config())
    with_features = Config()
    with_features.model.initial_scale = 0.1
    with_features.model.candidate.features = (Feature("id"), Feature("genres", "bag"))
    save_bundle(tmp_path / "runs/movielens_100k_ensemble/bundle", with_features)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"## Serving\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert "Movie" in capsys.readouterr().out
    tower = re.search(r"which `in_tree` names:\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(tower, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(3, 33)\n"
    following = re.search(r"reads features:\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(following, "README.md", "exec"), namespace)
    assert len(namespace["live"]) == 200 and namespace["vector"].shape == (33,)


def test_the_index_example_runs(capsys, tmp_path, monkeypatch):
    code = re.search(r"```python\n(import numpy as np\nfrom retrieval import Filter.*?)```", README, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert "film" in capsys.readouterr().out and len(namespace["index"]) == 2000
    assert len(LiveIndex.load("films")) == 2000
