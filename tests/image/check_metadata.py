#!/usr/bin/env python3
"""Checks what the image tells a container engine: user, volume, health check, labels.

check_metadata.py INSPECT.json (as buildah inspect --type image prints it)
"""

import json
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)["Docker"]["config"]
    expected = {
        "User": "10001:10001",
        "Entrypoint": ["moelightd"],
        "Cmd": ["serve", "--config", "/etc/moelight/config.yaml"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
        "StopSignal": "SIGTERM",
    }
    for key, value in expected.items():
        assert config.get(key) == value, "%s is %r, not %r" % (key, config.get(key), value)
    assert set(config["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}, config["ExposedPorts"]
    health = config["Healthcheck"]
    assert health["Test"][:2] == ["CMD", "moelight"] and "health" in health["Test"], health
    # A check that is killed before it gives up by itself would say nothing of why.
    timeout_s = float(health["Test"][health["Test"].index("--timeout") + 1])
    assert timeout_s < health["Timeout"] / 1e9 <= health["Interval"] / 1e9, health
    labels = config["Labels"]
    for label in ("title", "description", "licenses", "version", "revision"):
        assert labels.get("org.opencontainers.image." + label), "no label %s" % label
    assert labels["org.opencontainers.image.revision"] != "unknown", labels
    print("user, volume, health check and labels are right")


main()
