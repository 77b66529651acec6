#!/usr/bin/env python3
"""Writes dashboards/*.json, which Grafana reads, from panels.py, which people read.

    deploy/grafana/dashboard.py            # writes them
    deploy/grafana/dashboard.py --check    # exit code 1 if a file differs

A new panel is one call in panels.py.
"""

import json
import os
import sys

DATASOURCE = {"type": "prometheus", "uid": "moelight-prometheus"}
SELECT = 'instance=~"$instance"'
WINDOW = "$__rate_interval"

# At the end of a panel's description: how the tests know that a CPU has no data for it.
GPU_ONLY = "(GPU only)"

GRID_WIDTH = 24
SCHEMA_VERSION = 39  # Grafana 10.3 and later; newer ones migrate it


class Dashboard:
    def __init__(self, uid, title, question, panels):
        self.uid, self.title, self.question, self.panels = uid, title, question, panels


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [],
            "size": (GRID_WIDTH, 1)}


def stat(title, unit, description, queries, bad_below=None, bad_above=None, shows_name=False,
         width=4, gpu_only=False):
    """One number, red beyond a bound. `shows_name`: its legend, for constants with labels."""
    steps = [{"color": "text", "value": None}]
    if bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": bad_below}]
    if bad_above is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": bad_above}]
    panel = _panel("stat", title, unit, description, queries, (width, 4), gpu_only)
    panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["options"] = {
        "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "name" if shows_name else "value",
    }
    return panel


def series(title, unit, description, queries, stacked=False, below_zero=False, width=8,
           gpu_only=False):
    """Lines over time, or areas on top of each other."""
    panel = _panel("timeseries", title, unit, description, queries, (width, 8), gpu_only)
    panel["fieldConfig"]["defaults"].update({
        "custom": {
            "drawStyle": "line", "lineWidth": 1, "showPoints": "never", "spanNulls": False,
            "fillOpacity": 30 if stacked else 5,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        },
    })
    if not below_zero:
        panel["fieldConfig"]["defaults"]["min"] = 0
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True,
                   "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def _panel(kind, title, unit, description, queries, size, gpu_only):
    targets = [
        {"refId": chr(ord("A") + i), "datasource": DATASOURCE, "editorMode": "code",
         "expr": expression, "legendFormat": legend, "range": True}
        for i, (expression, legend) in enumerate(queries)]
    return {
        "type": kind, "title": title, "size": size,
        "description": "%s %s" % (description, GPU_ONLY) if gpu_only else description,
        "datasource": DATASOURCE, "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "color": {"mode": "palette-classic"}},
                        "overrides": []},
    }


def _placed(panels):
    """Panels with ids and places, from left to right, a row panel on a line of its own."""
    placed, x, y, line_height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        panel = dict(panel)
        width, height = panel.pop("size")
        if x + width > GRID_WIDTH:
            x, y, line_height = 0, y + line_height, 0
        placed.append({"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **panel})
        x, line_height = x + width, max(line_height, height)
    return placed


def to_json(dashboard):
    instances = "label_values(up{job=\"moelight\"}, instance)"
    model = {
        "uid": dashboard.uid, "title": dashboard.title, "description": dashboard.question,
        "tags": ["moelight"], "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": True,
        "graphTooltip": 1, "timezone": "browser", "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "title": "moelight", "tags": ["moelight"],
                   "asDropdown": False, "includeVars": True, "keepTime": True,
                   "targetBlank": False}],
        "templating": {"list": [{
            "name": "instance", "label": "Daemon", "type": "query", "datasource": DATASOURCE,
            "query": {"query": instances, "refId": "instances"}, "definition": instances,
            "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }]},
        "annotations": {"list": [{
            "name": "Starts", "datasource": DATASOURCE, "enable": True, "iconColor": "blue",
            "expr": "changes(moelight_start_timestamp_seconds{%s}[2m]) > 0" % SELECT,
            "titleFormat": "moelightd started", "textFormat": "{{instance}}",
        }]},
        "panels": _placed(dashboard.panels),
    }
    return json.dumps(model, indent=1, ensure_ascii=False) + "\n"


def main():
    from panels import DASHBOARDS
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dashboards")
    differing = []
    for dashboard in DASHBOARDS:
        path = os.path.join(folder, dashboard.uid.removeprefix("moelight-") + ".json")
        text = to_json(dashboard)
        if "--check" not in sys.argv[1:]:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            continue
        try:
            with open(path, encoding="utf-8") as file:
                found = file.read()
        except FileNotFoundError:
            found = ""
        if found != text:
            differing.append(path)
    for path in differing:
        print("%s is not what panels.py says; run deploy/grafana/dashboard.py" % path)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
