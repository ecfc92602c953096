"""The tutorial runs from its first cell to its last, and its metrics are those of its text."""

import json

import pytest
from docs_cases import ROOT

NOTEBOOK = ROOT / "docs/tutorial.ipynb"
METRICS = "{name: float(globals()[f'{name}_metrics'][key]) for name in ('textbook', 'popular', 'better')}"
CHECK = f"""
import json
metrics = {{}}
for key in NAMES:
    metrics[key] = {METRICS}
metrics["titles"] = [str(title) for title in recommended.titles]
metrics["exact"] = [str(title) for title in dataset.corpus.columns["title"][positions[0]]]
metrics["compared"] = [float(comparison.difference), float(comparison.permutation_p)]
print(json.dumps(metrics))
"""


def test_the_stored_outputs_are_small_texts():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert len(outputs) >= 10
    assert {output["output_type"] for output in outputs} == {"stream"}
    assert NOTEBOOK.stat().st_size < 60_000


@pytest.mark.slow
def test_the_tutorial_runs_and_its_metrics_are_in_range():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECK))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    metrics = json.loads(notebook.cells[-1].outputs[0].text)
    for key, textbook, popular, better in (
        ("excluding_seen/precision_at_10", (0.055, 0.075), (0.1907, 0.1909), (0.355, 0.378)),
        ("excluding_seen/recall_at_10", (0.045, 0.063), (0.1162, 0.1164), (0.229, 0.246)),
        ("excluding_seen/ndcg_at_10", (0.06, 0.085), (0.2170, 0.2172), (0.425, 0.452)),
        ("factorized_top_k/top_100_categorical_accuracy", (0.160, 0.184), (0.2969, 0.2971), (0.40, 0.43)),
    ):
        for name, (low, high) in (("textbook", textbook), ("popular", popular), ("better", better)):
            assert low <= metrics[key][name] <= high, f"{key} of {name}: {metrics[key][name]}"
    assert metrics["titles"] == metrics["exact"] and len(metrics["titles"]) == 5
    difference, p_value = metrics["compared"]
    assert difference > 0.15 and p_value < 0.001
