#!/usr/bin/env python3
"""Shows what is needed to understand why tests have failed, from what `go test -json` has printed.

    tools/failures.py FILE

Each test that failed is shown with the end of its server's log and then with what it says itself. The last lines name every one of them with
the first thing that it says, for whoever sees only the end. Whatever a test prints, what is shown of it is short.
"""

import collections
import json
import re
import sys

DETAILED = 8  # tests that are shown whole
SAID, LOGGED = 40, 15  # lines of each
WIDTH = 300

place = re.compile(r"\w+_test\.go:\d+: |\w+\.go:\d+: ")


def read(path):
    output, failed = collections.defaultdict(list), []
    for line in open(path, errors="replace"):
        try:
            event = json.loads(line)
        except ValueError:
            event = {"Action": "output", "Output": line}
        key = (event.get("Package") or event.get("ImportPath") or "", event.get("Test") or "")
        if event["Action"] in ("output", "build-output"):
            output[key].append(event["Output"])
        elif event["Action"] in ("fail", "build-fail") and key not in failed:
            failed.append(key)
    return output, failed


def cut(line):
    line = line.rstrip()
    return line if len(line) <= WIDTH else line[:WIDTH] + "…"


def logged(line):
    """A line of a server's log, in short; None: it says nothing of what a test does."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    level, logger = entry.get("level"), str(entry.get("logger", ""))
    if level == "debug" or level == "info" and not logger.startswith("mfa") or "byeee" in str(entry.get("msg")):
        return None
    head = [str(entry.pop(name, "")) for name in ("level", "logger", "msg")]
    entry.pop("ts", None)
    for name in ("error", "event", "user", "reason"):
        if name in entry:
            head.append(f"{name}={entry.pop(name)}")
    return cut("  | " + " ".join(head) + " " + json.dumps(entry))


def split(lines):
    said, log = [], []
    for line in "".join(lines).splitlines():
        text = line.strip()
        if text.startswith("<"):  # a page, of which the words count
            text = line = re.sub(r"<svg.*?</svg>|<[^>]*>", " ", text).strip()
            line = "        " + line
        if text.startswith("=== ") or text.endswith(": log of the server:") or not text:
            continue
        if text.startswith('{"level"'):
            log.append(logged(text))
        elif not text.startswith("…"):
            said.append(cut(line))
    return said, [line for line in log if line]


def summary(key, said):
    package, test = key
    first = next((line for line in said if place.search(line)), None)
    first = first or next((line for line in said if re.search(r"panic|DATA RACE|rror|FAIL", line)), said[0] if said else "says nothing")
    return f"--- FAIL {test or package}: {first.strip()}"


def main():
    output, failed = read(sys.argv[1])
    # A test fails with its subtests, and a package with its tests: what they say themselves is what counts.
    inner = [k for k in failed if not any(o[0] == k[0] and o != k and (not k[1] or o[1].startswith(k[1] + "/")) for o in failed)]
    parts = {key: split(output[key]) for key in failed}
    shown = [k for k in failed if k in inner or any(place.search(line) or "DATA RACE" in line or "panic" in line for line in parts[k][0])]
    for key in shown[:DETAILED]:
        said, log = parts[key]
        print(f"\n=== {' '.join(key)}")
        print("\n".join(log[-LOGGED:]))
        if len(said) > SAID:
            said = said[: SAID // 2] + [f"  … {len(said) - SAID} more lines …"] + said[-(SAID // 2) :]
        print("\n".join(said))
    print()
    for key in shown:
        print(summary(key, parts[key][0]))


main()
