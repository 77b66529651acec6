#!/usr/bin/python3
"""Renders the chat templates and constructs of tests/data/chat_templates with Python's Jinja2.

Writes expected.json, which the C++ test compares with. With --check nothing is written and the exit
status is 1 if expected.json is not what would be. Needs Debian's python3-jinja2 (3.1).
"""

import argparse
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "chat_templates"
NOW = datetime.datetime(2025, 6, 1, 12, 30, 0)  # also in chat_template_golden_test.cc
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %}, which renders as its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def make_environment():
    """The environment in which Hugging Face renders chat templates, with a fixed clock."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return environment


def render(environment, source, case, tools):
    """{"text": ...}, or {"raised": message} for raise_exception, or {"error": kind}."""
    variables = dict(SPECIAL_TOKENS)
    variables["documents"] = None
    variables["add_generation_prompt"] = case.get("add_generation_prompt", True)
    variables.update(case.get("kwargs", {}))
    variables["messages"] = case["messages"]
    variables["tools"] = tools if "tools" in case else None
    try:
        return {"text": environment.from_string(source).render(**variables)}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": str(error)}
        return {"error": type(error).__name__}
    except Exception as error:  # pylint: disable=broad-except
        return {"error": type(error).__name__}


def make_expected():
    environment = make_environment()
    tools = json.loads((DATA / "tools.json").read_text())
    cases = json.loads((DATA / "cases.json").read_text())
    constructs = json.loads((DATA / "constructs.json").read_text())
    templates = {}
    for path in sorted(DATA.glob("*.jinja")):
        source = path.read_text()
        templates[path.stem] = {
            case["name"]: render(environment, source, case, tools) for case in cases
        }
    results = [
        {"source": source} | render(environment, source, constructs["case"], tools)
        for source in constructs["sources"]
    ]
    return {"templates": templates, "constructs": results}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = json.dumps(make_expected(), indent=1, ensure_ascii=False) + "\n"
    path = DATA / "expected.json"
    if not arguments.check:
        path.write_text(text)
        return 0
    if path.exists() and path.read_text() == text:
        return 0
    print(f"{path} is not what Jinja2 {jinja2.__version__} gives; run {__file__}",
          file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
