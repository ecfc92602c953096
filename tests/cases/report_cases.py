"""Runs whose reports are tested, and the contrast of colours."""

import io
import json

import PIL.Image

from configs import synthetic
from experiments.report import write_report
from experiments.shared.run_data import load_data
from experiments.shared.workdir import Workdir
from experiments.train import train
from retrieval.config.schema import Config
from retrieval.pipeline.index_trained import build_index

HOSTILE = ["<script>hacked=1</script>", '"><img src=x onerror=hacked=1>', "a & b $x^2$ </svg>", "映画 'ü' #0a63b5"]
KS = (5, 10, 20)
METRIC = "excluding_seen/ndcg_at_10"


def make(path, config):
    """Trains a run and writes its report; returns its folder."""
    workdir = Workdir(path)
    dataset = load_data(config, workdir)
    trained = train(config, dataset, workdir)
    add_records(workdir)
    write_report(config, dataset, trained, build_index(config.index, trained), workdir)
    return workdir


def add_records(workdir, values=(*HOSTILE, "a value that is much too long for its place")):
    """Writes what evaluation and baselines write, with invented numbers."""
    names = [f"excluding_seen/{metric}_at_{k}" for metric in ("ndcg", "recall", "coverage") for k in KS]
    systems = {"test": 0.4, "popularity": 0.2, "ease": 0.39, "<b>own": 0.1}
    metrics = {f"{system}/{name}": level for system, level in systems.items() for name in names}
    workdir.add_metrics(metrics)
    intervals = {name: [0.9 * value, 1.1 * value] for name, value in metrics.items()}
    workdir.intervals_file.write_text(json.dumps(intervals))
    common = {"of": "candidates", "column": HOSTILE[0], "num_queries": 7, "num_relevant": 9}
    slices = [
        common | {"system": system, "value": value, "figures": {METRIC: 0.3}, "intervals": {METRIC: [0.2, 0.4]}}
        for value in values
        for system in ("test", "popularity")
    ]
    workdir.slices_file.write_text(json.dumps(slices))


def hostile_config(folder):
    """Returns a config of a small data set whose texts try to become code."""
    pairs = [(f"<i>{u}", f"c{(u + 5 * i) % 30}") for u in range(40) for i in range(8)]
    rows = ["user_id,item_id", *(f"{u},{c}" for u, c in pairs)]
    (folder / "events.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    titles = [HOSTILE[i % len(HOSTILE)].replace('"', '""') for i in range(30)]
    items = ["item_id,name,genre", *(f'c{i},"{t}","{t}|plain"' for i, t in enumerate(titles))]
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    config = Config(name=HOSTILE[1])
    config.data.interactions, config.data.candidates = str(folder / "events.csv"), str(folder / "items.csv")
    config.data.columns.title = "name"
    config.train.batch_size, config.train.epochs = 32, 2
    config.evaluate.top_k_accuracies = (1, 5)
    return config


def plain_config():
    """Returns a config of the synthetic data, trained a little."""
    config = synthetic.get_config()
    config.train.epochs = 3
    return config


def hexadecimal(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def contrast(first, second):
    """Returns the contrast ratio of WCAG 2.1 of two colours in sRGB."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def num_colours(png):
    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    return len(image.getcolors(image.width * image.height))
