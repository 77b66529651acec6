"""What deploy/ shows and watches, as data: panels, alerts, and the metrics of the reference."""

import glob
import json
import os
import re
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GRAFANA = os.path.join(ROOT, "deploy", "grafana")
PROMETHEUS = os.path.join(ROOT, "deploy", "prometheus")

GPU_ONLY = "(GPU only)"  # at the end of a panel's description

# What Prometheus adds to every target, and the labels that it gives every series.
OF_PROMETHEUS = {"up": [], "scrape_duration_seconds": []}
COMMON_LABELS = {"instance", "job"}

Metric = namedtuple("Metric", "kind labels")
Query = namedtuple("Query", "where expression is_gpu_only")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def documented_metrics():
    """Name -> Metric, from the table in server/REFERENCE.md."""
    metrics = {}
    for line in read("server", "REFERENCE.md").splitlines():
        match = re.match(r"\| `(moelight_\w+)` \| (\w+) \| (.*?) \|", line)
        if match:
            metrics[match[1]] = Metric(match[2], re.findall(r"`(\w+)`", match[3]))
    return metrics


def series_names(metrics):
    """Series name -> labels that it may have, histograms with all of theirs."""
    names = dict(OF_PROMETHEUS)
    for name, metric in metrics.items():
        if metric.kind == "histogram":
            names[name + "_bucket"] = metric.labels + ["le"]
            names[name + "_sum"] = names[name + "_count"] = metric.labels
        else:
            names[name] = metric.labels
    return names


def dashboards():
    """File name -> dashboard, in the order of their names."""
    found = {}
    for path in sorted(glob.glob(os.path.join(GRAFANA, "dashboards", "*.json"))):
        with open(path, encoding="utf-8") as file:
            found[os.path.basename(path)] = json.load(file)
    return found


def panels(dashboard):
    """Panels that show data."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries():
    """Every query of every panel."""
    return [Query("%s: %s" % (name, panel["title"]), target["expr"],
                  panel["description"].endswith(GPU_ONLY))
            for name, dashboard in dashboards().items()
            for panel in panels(dashboard) for target in panel["targets"]]


def alerts():
    """Name -> text of each rule in alerts.yml."""
    rules = re.split(r"^ +- alert: ", read("deploy", "prometheus", "alerts.yml"), flags=re.M)[1:]
    return {rule.split("\n", 1)[0].strip(): rule.split("\n  - name:", 1)[0] for rule in rules}


def used_series(expression):
    """(name, labels) of each selector in an expression, and the labels that it groups by."""
    selectors = re.findall(r"\b((?:moelight_|up\b|scrape_)\w*)\s*(?:\{([^}]*)\})?", expression)
    used = [(name, set(re.findall(r"(\w+)\s*[=!]", labels))) for name, labels in selectors]
    groups = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    return used, {label.strip() for group in groups for label in group.split(",") if label.strip()}
