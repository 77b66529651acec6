#!/usr/bin/env python3
"""What deploy/ ships fits together and is taken by the programs that it is for.

deploy_test.py MOELIGHTD [unittest arguments]

Programs that a machine may lack (docker-compose) are skipped with a message; Debian's packages of
deploy/install_packages.sh test have all others.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEPLOY = os.path.join(ROOT, "deploy")
TIMEOUT_S = 60


def read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


def documents(*parts):
    return [document for document in yaml.safe_load_all(read(*parts)) if document is not None]


def run(*command, **keywords):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                          **keywords)


class TestCase(unittest.TestCase):
    moelightd = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="moelight-deploy-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def assert_succeeds(self, *command, **keywords):
        result = run(*command, **keywords)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result

    def check_config(self, path, *settings):
        """A model that only a container has is replaced by the demo's; nothing else is."""
        command = [self.moelightd, "serve", "--config", path, "--check-config"]
        for setting in ("engine.model=" + os.path.join(DEPLOY, "demo/model"), *settings):
            command += ["--set", setting]
        return self.assert_succeeds(*command)


class ConfigTest(TestCase):
    def test_every_configuration_is_accepted(self):
        paths = ["config.yaml", "deploy/docker/config.yaml"]
        for path in paths:
            with self.subTest(path):
                self.check_config(os.path.join(ROOT, path))

    def test_a_wrong_one_is_refused(self):
        path = self.write("config.yaml", read("deploy/docker/config.yaml") + "\nserve: {}\n")
        result = run(self.moelightd, "serve", "--config", path, "--check-config")
        self.assertEqual(result.returncode, 2)
        self.assertIn("serve", result.stderr)


class DockerfileTest(TestCase):
    def test_copies_only_what_the_context_has(self):
        """.dockerignore keeps out everything that is not named in it."""
        kept = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
        for path in kept:
            self.assertTrue(os.path.exists(os.path.join(ROOT, path)), path)
        text = re.sub(r"\\\n", " ", read("Dockerfile"))
        copied = []
        for arguments in re.findall(r"^COPY (.*)$", text, re.M):
            if not arguments.startswith("--from"):
                copied += arguments.split()[:-1]
        self.assertIn("server", copied)
        for path in copied:
            self.assertTrue(any(path == prefix or path.startswith(prefix + "/") for prefix in kept),
                            "%s is not in the build context" % path)

    def test_the_build_needs_no_other_folder(self):
        """A folder that CMakeLists.txt adds without tests is in the context too."""
        added = re.findall(r"^add_subdirectory\((\w+)\)", read("CMakeLists.txt"), re.M)
        self.assertIn("engine", added)
        for folder in added:
            self.assertIn("COPY %s %s\n" % (folder, folder), read("Dockerfile"))

    def test_paths_of_the_configuration_are_in_the_image(self):
        dockerfile = read("Dockerfile")
        config = yaml.safe_load(read("deploy/docker/config.yaml"))
        self.assertIn(" %s\n" % config["engine"]["model"], dockerfile)
        self.assertTrue(config["store"]["path"].startswith("/data/"))
        self.assertIn("VOLUME /data\n", dockerfile)
        for key in ("server", "metrics"):
            port = config[key]["listen"].rsplit(":", 1)[1]
            self.assertRegex(dockerfile, r"\nEXPOSE [0-9 ]*\b%s\b" % port)


class ComposeTest(TestCase):
    def setUp(self):
        super().setUp()
        self.compose = documents("deploy/docker-compose.yaml")[0]
        self.services = self.compose["services"]

    def test_mounted_files_exist(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue(os.path.exists(os.path.join(DEPLOY, source)),
                                    "%s mounts %s" % (name, source))
                elif not source.startswith("${"):  # the user's
                    self.assertIn(source, self.compose["volumes"])

    def test_services_reach_each_other(self):
        for service in self.services.values():
            for network in service["networks"]:
                self.assertIn(network, self.compose["networks"])
        config = yaml.safe_load(read("deploy/docker/config.yaml"))
        port = config["server"]["listen"].rsplit(":", 1)[1]
        self.assertIn("server moelightd moelightd:%s " % port, read("deploy/haproxy/haproxy.cfg"))
        self.assertIn("inside", self.services["moelightd"]["networks"])
        self.assertIn("inside", self.services["haproxy"]["networks"])

    def test_only_tls_is_published_to_others(self):
        published = [port for service in self.services.values() for port in service["ports"]
                     if not port.startswith("127.0.0.1:")]
        self.assertEqual(published, ["50443:50443"])
        self.assertRegex(read("deploy/haproxy/haproxy.cfg"),
                         r"bind :50443 ssl crt /etc/haproxy/moelight.pem ")
        haproxy = self.services["haproxy"]
        self.assertIn("./haproxy:/etc/haproxy:ro", haproxy["volumes"])
        self.assertIn("/etc/haproxy/haproxy.cfg", haproxy["command"])

    def test_the_daemon_gets_what_it_needs(self):
        daemon = self.services["moelightd"]
        self.assertEqual(daemon["ulimits"]["memlock"], {"soft": -1, "hard": -1})
        devices = daemon["deploy"]["resources"]["reservations"]["devices"]
        self.assertEqual(devices[0]["capabilities"], ["gpu"])
        self.assertGreaterEqual(int(daemon["stop_grace_period"].rstrip("s")), 10)
        for service in self.services.values():
            self.assertTrue(service["read_only"])

    def test_docker_compose_accepts_it(self):
        program = shutil.which("docker-compose")
        if program is None:
            self.skipTest("there is no docker-compose here")
        environment = {**os.environ, "GRAFANA_PASSWORD": "secret"}
        self.assert_succeeds(program, "-f", os.path.join(DEPLOY, "docker-compose.yaml"), "config",
                             "-q", env=environment)


class HaproxyTest(TestCase):
    def test_it_accepts_the_configuration_without_a_warning(self):
        self.assert_succeeds(os.path.join(DEPLOY, "haproxy/make_certificate.sh"), "localhost",
                             self.folder)
        config = read("deploy/haproxy/haproxy.cfg")
        config = config.replace("/etc/haproxy/moelight.pem",
                                os.path.join(self.folder, "moelight.pem"))
        # Without Docker's names the server would be off until one is found.
        config = config.replace("moelightd:50051", "127.0.0.1:50051")
        result = self.assert_succeeds("/usr/sbin/haproxy", "-c", "-f",
                                      self.write("haproxy.cfg", config))
        self.assertNotIn("WARNING", result.stderr)

    def test_a_certificate_is_never_overwritten(self):
        script = os.path.join(DEPLOY, "haproxy/make_certificate.sh")
        self.assert_succeeds(script, "localhost", self.folder)
        path = os.path.join(self.folder, "moelight.pem")
        with open(path, encoding="utf-8") as file:
            first = file.read()
        self.assertEqual(os.stat(path).st_mode & 0o077, 0, "others can read the key")
        self.assertEqual(run(script, "localhost", self.folder).returncode, 1)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), first)


class SystemdTest(TestCase):
    unit = "deploy/systemd/moelightd.service"

    def test_systemd_accepts_the_unit(self):
        text = read(self.unit).replace("/usr/local/bin/moelightd", self.moelightd)
        result = self.assert_succeeds("systemd-analyze", "verify",
                                      self.write("moelightd.service", text))
        self.assertEqual(result.stderr, "")

    def test_little_is_exposed(self):
        # 10 is everything, 0 nothing; the network and the GPU's devices are needed.
        self.assert_succeeds("systemd-analyze", "security", "--offline=true", "--threshold=20",
                             os.path.join(ROOT, self.unit))

    def test_what_the_daemon_relies_on(self):
        lines = read(self.unit).splitlines()
        for line in ("LimitMEMLOCK=infinity", "Restart=on-failure", "RestartPreventExitStatus=2",
                     "ExecReload=/bin/kill -HUP $MAINPID"):
            self.assertIn(line, lines)


class KubernetesTest(TestCase):
    folder_name = "deploy/kubernetes"

    def setUp(self):
        super().setUp()
        self.kustomization = documents(self.folder_name, "kustomization.yaml")[0]
        self.objects = [document for name in self.kustomization["resources"]
                        for document in documents(self.folder_name, name)]

    def only(self, kind, name="moelight"):
        found = [item for item in self.objects
                 if item["kind"] == kind and item["metadata"]["name"] == name]
        self.assertEqual(len(found), 1, "%s %s" % (kind, name))
        return found[0]

    def container(self):
        containers = self.only("StatefulSet")["spec"]["template"]["spec"]["containers"]
        self.assertEqual(len(containers), 1)
        return containers[0]

    def test_every_file_is_listed(self):
        files = set(os.listdir(os.path.join(ROOT, self.folder_name))) - {"kustomization.yaml"}
        self.assertEqual(files, set(self.kustomization["resources"]))

    def test_the_configuration_is_accepted_and_its_paths_are_mounted(self):
        text = self.only("ConfigMap")["data"]["config.yaml"]
        self.check_config(self.write("config.yaml", text))
        config = yaml.safe_load(text)
        mounts = {mount["mountPath"]: mount for mount in self.container()["volumeMounts"]}
        self.assertEqual(os.path.dirname(config["store"]["path"]), "/data")
        self.assertNotIn("readOnly", mounts["/data"])
        self.assertTrue(mounts[os.path.dirname(config["engine"]["model"])]["readOnly"])
        self.assertTrue(mounts["/etc/moelight"]["readOnly"])
        arguments = self.container()["args"]
        self.assertEqual(arguments, ["serve", "--config", "/etc/moelight/config.yaml"])
        ports = {port["name"]: port["containerPort"] for port in self.container()["ports"]}
        self.assertEqual(config["server"]["listen"], "0.0.0.0:%d" % ports["grpc"])
        self.assertEqual(config["metrics"]["listen"], "0.0.0.0:%d" % ports["metrics"])

    def test_memory_of_the_engine_fits_the_pod(self):
        config = yaml.safe_load(self.only("ConfigMap")["data"]["config.yaml"])
        limit_gib = int(self.container()["resources"]["limits"]["memory"].removesuffix("Gi"))
        engine_gib = int(config["engine"]["host_memory"].removesuffix("GiB"))
        self.assertLessEqual(engine_gib, limit_gib - 8)
        self.assertEqual(self.container()["resources"]["limits"],
                         self.container()["resources"]["requests"])
        self.assertEqual(self.container()["resources"]["limits"]["nvidia.com/gpu"], 1)

    def test_volumes_are_there(self):
        spec = self.only("StatefulSet")["spec"]
        names = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
        names |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
        self.assertEqual(names, {mount["name"] for mount in self.container()["volumeMounts"]})
        for volume in spec["template"]["spec"]["volumes"]:
            if "configMap" in volume:
                self.only("ConfigMap", volume["configMap"]["name"])

    def test_selectors_find_the_pod(self):
        stateful_set = self.only("StatefulSet")["spec"]
        labels = stateful_set["template"]["metadata"]["labels"].items()
        self.only("Service", stateful_set["serviceName"])
        selectors = [stateful_set["selector"]["matchLabels"],
                     self.only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                     self.only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
        selectors += [item["spec"]["selector"] for item in self.objects
                      if item["kind"] == "Service"]
        self.assertEqual(len(selectors), 5)
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels)

    def test_ports_are_named_alike(self):
        named = {port["name"] for port in self.container()["ports"]}
        for item in self.objects:
            if item["kind"] == "Service":
                for port in item["spec"]["ports"]:
                    self.assertIn(port["targetPort"], named)
        for rule in self.only("NetworkPolicy")["spec"]["ingress"]:
            for port in rule["ports"]:
                self.assertIn(port["port"], named)

    def test_prometheus_finds_one_service_with_its_port(self):
        monitor = self.only("ServiceMonitor")["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        services = [item for item in self.objects if item["kind"] == "Service"
                    and wanted <= item["metadata"]["labels"].items()]
        self.assertEqual(len(services), 1)
        ports = {port["name"] for port in services[0]["spec"]["ports"]}
        self.assertLessEqual({endpoint["port"] for endpoint in monitor["endpoints"]}, ports)

    def test_probes_ask_like_the_image_does(self):
        health = re.search(r'HEALTHCHECK .*\n +CMD \[(.*)\]', read("Dockerfile")).group(1)
        command = [word.strip(' "') for word in health.split(",")]
        live = self.container()["livenessProbe"]
        self.assertEqual(live["exec"]["command"], command)
        ready = self.container()["readinessProbe"]
        self.assertEqual(ready["exec"]["command"], command[:-1] + ["ready"])
        # Of the listener for administration, where the client looks for it unless told otherwise.
        for text in (read("deploy/docker/config.yaml"),
                     self.only("ConfigMap")["data"]["config.yaml"]):
            address = yaml.safe_load(text)["server"]["admin_listen"]
            self.assertEqual(address, "127.0.0.1:50052")
        for probe in (live, ready):
            self.assertGreater(probe["timeoutSeconds"],
                               float(command[command.index("--timeout") + 1]))

    def test_the_pod_is_as_restricted_as_its_namespace_demands(self):
        pod = self.only("StatefulSet")["spec"]["template"]["spec"]
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual(pod["securityContext"]["runAsUser"], 10001)
        self.assertIn("USER 10001:10001\n", read("Dockerfile"))
        container = self.container()["securityContext"]
        self.assertTrue(container["readOnlyRootFilesystem"])
        self.assertFalse(container["allowPrivilegeEscalation"])
        self.assertEqual(container["capabilities"], {"drop": ["ALL"]})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: %s MOELIGHTD [unittest arguments]" % sys.argv[0])
    TestCase.moelightd = os.path.abspath(sys.argv[1])
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[2:]])
