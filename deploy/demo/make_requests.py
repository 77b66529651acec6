#!/usr/bin/env python3
"""Writes requests.jsonl, the demo's batch: OpenAI Batch lines with fresh tasks of every kind.

make_requests.py [--count N] [--seed N] > requests.jsonl
"""
import argparse
import json
import random

import tasks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    per_kind = {}
    seen = set()
    number = 0
    # As many of each kind as the count allows, none twice.
    while number < options.count:
        kind, question, _ = tasks.sample(rng)
        if question in seen or per_kind.get(kind, 0) > options.count // 18:
            continue
        seen.add(question)
        per_kind[kind] = per_kind.get(kind, 0) + 1
        number += 1
        line = {
            "custom_id": f"{kind}-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "demo",
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 128,
                "temperature": 0,
            },
        }
        print(json.dumps(line))


main()
