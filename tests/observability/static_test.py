"""Dashboards and alerts as they lie in deploy/: complete, of one piece with the metrics there are;
each alert is shown to fire and not to fire. Nothing is started but promtool."""

import re
import subprocess
import sys
import unittest

from dashboards import (COMMON_LABELS, GRAFANA, PROMETHEUS, alerts, dashboards, documented_metrics,
                        panels, queries, read, series_names, used_series)

GRID_WIDTH = 24


def run(*command, folder=PROMETHEUS):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


class DashboardsTest(unittest.TestCase):

    def for_each_panel(self, check):
        for name, dashboard in dashboards().items():
            for panel in panels(dashboard):
                with self.subTest(dashboard=name, panel=panel["title"]):
                    check(panel)

    def test_files_are_what_panels_py_says(self):
        result = run(sys.executable, "dashboard.py", "--check", folder=GRAFANA)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_there_are_four_with_ids_of_their_own(self):
        found = dashboards()
        self.assertEqual(sorted(found),
                         ["jobs.json", "memory.json", "pipeline.json", "server.json"])
        self.assertEqual(len({dashboard["uid"] for dashboard in found.values()}), len(found))
        for dashboard in found.values():
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(set(ids)), len(ids))

    def test_every_panel_says_what_it_shows(self):
        def check(panel):
            self.assertGreater(len(panel["description"]), 15)
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
            self.assertIn(panel["type"], ("stat", "timeseries"))  # no plug-ins
            legends = [target["legendFormat"] for target in panel["targets"]]
            self.assertTrue(all(legends), legends)
            self.assertEqual(len(set(legends)), len(legends))
        self.for_each_panel(check)

    def test_a_legend_only_names_labels_that_the_query_keeps(self):
        def check(panel):
            for target in panel["targets"]:
                kept = used_series(target["expr"])[1]
                self.assertLessEqual(set(re.findall(r"{{(\w+)}}", target["legendFormat"])), kept)
        self.for_each_panel(check)

    def test_the_data_source_is_the_provisioned_one(self):
        provisioned = read("deploy", "grafana", "provisioning", "datasources", "prometheus.yaml")
        uid = re.search(r"uid: (\S+)", provisioned)[1]
        interval = re.search(r"timeInterval: (\S+)", provisioned)[1]
        self.assertIn("scrape_interval: " + interval,
                      read("deploy", "prometheus", "prometheus.yml"))

        def check(panel):
            sources = [panel["datasource"]] + [target["datasource"] for target in panel["targets"]]
            self.assertEqual({source["uid"] for source in sources}, {uid})
        self.for_each_panel(check)

    def test_panels_do_not_overlap(self):
        for name, dashboard in dashboards().items():
            taken = set()
            for panel in dashboard["panels"]:
                place = panel["gridPos"]
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                with self.subTest(dashboard=name, panel=panel["title"]):
                    self.assertLessEqual(place["x"] + place["w"], GRID_WIDTH)
                    self.assertFalse(taken & cells)
                taken |= cells


class NamesTest(unittest.TestCase):

    def check_names(self, where, expression):
        known = series_names(documented_metrics())
        used, grouped_by = used_series(expression)
        with self.subTest(where):
            self.assertTrue(used, expression)
            possible = set(COMMON_LABELS)
            for name, labels in used:
                self.assertIn(name, known, "server/REFERENCE.md has no such metric")
                possible |= set(known[name])
                self.assertLessEqual(labels, COMMON_LABELS | set(known[name]), name)
            self.assertLessEqual(grouped_by, possible, expression)

    def test_panels_use_metrics_and_labels_that_exist(self):
        for query in queries():
            self.check_names(query.where, query.expression)

    def test_alerts_use_metrics_and_labels_that_exist(self):
        for name, rule in alerts().items():
            expression = re.split(r"\n +(?:for|labels):", rule.split("expr:", 1)[1])[0]
            self.check_names(name, expression)


class AlertsTest(unittest.TestCase):

    def test_every_alert_says_what_to_do(self):
        self.assertGreater(len(alerts()), 10)
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertRegex(rule, r"severity: (critical|warning)\b")
                for annotation in ("summary", "description", "action"):
                    self.assertRegex(rule, annotation + r': "[^"]{15,}')

    def test_promtool_accepts_rules_and_configuration(self):
        for arguments in (["check", "rules", "alerts.yml"], ["check", "config", "prometheus.yml"]):
            result = run("promtool", *arguments)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_alerts_fire_and_do_not_fire(self):
        result = run("promtool", "test", "rules", "alerts_test.yml")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_every_alert_has_a_case_that_fires_and_one_that_does_not(self):
        text = read("deploy", "prometheus", "alerts_test.yml")
        cases = {}
        for case in re.split(r"^  - name: ", text, flags=re.M)[1:]:
            for name in re.findall(r'alertname="(\w+)"', case):
                cases[name] = cases.get(name, "") + case
        self.assertEqual(sorted(cases), sorted(alerts()))
        for name, case in cases.items():
            with self.subTest(name):
                self.assertRegex(case, r"exp_samples: \[\]")
                self.assertRegex(case, r"exp_samples: \[{labels:")


if __name__ == "__main__":
    unittest.main()
