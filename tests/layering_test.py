#!/usr/bin/env python3
"""Includes point one way: kernels <- runtime <- models <- speculative <- apps.

Every folder may include what stands left of it and the public headers of include/sidewinder;
public headers include only each other. Nothing includes bench, and only bench includes tests: the
case lists and helpers of tests/testing.
"""

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LADDER = ["kernels", "runtime", "models", "speculative", "apps"]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
SOURCES = {".h", ".cc", ".cu", ".cuh"}
# Headers of third parties are included with quotes, as Google style has it; ours name their folder.
THIRD_PARTY = ("absl/", "hwy/", "nlohmann/", "CLI/", "gtest/", "gmock/", "benchmark/",
               "minja/")
PUBLIC_FOLDER = "sidewinder"


def allowed(folder: str) -> set[str]:
    if folder in ("include", "examples"):
        return {PUBLIC_FOLDER}
    if folder in LADDER:
        below = set(LADDER[: LADDER.index(folder) + 1])
        return below if folder == "kernels" else below | {PUBLIC_FOLDER}
    if folder == "tests":
        return set(LADDER) | {PUBLIC_FOLDER, folder}
    return set(LADDER) - {"apps"} | {PUBLIC_FOLDER, folder}  # bench, python


def violations(folder: str) -> list[str]:
    found = []
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix not in SOURCES or not path.is_file():
            continue
        for include in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if include.startswith(THIRD_PARTY) or "/" not in include:
                continue
            if folder == "bench" and include.startswith("tests/testing/"):
                continue
            if include.split("/")[0] not in allowed(folder):
                found.append(f"{path.relative_to(ROOT)} includes {include}")
    return found


class LayeringTest(unittest.TestCase):
    def test_includes_point_one_way(self):
        for folder in ["include", "examples", "bench", "tests", "python", *LADDER]:
            with self.subTest(folder=folder):
                self.assertEqual(violations(folder), [])

    def test_speculation_sees_no_family(self):
        registry = (ROOT / "models/registry.cc").read_text(encoding="utf-8")
        families = {i for i in INCLUDE.findall(registry) if i.startswith("models/")}
        families.remove("models/registry.h")
        for path in sorted((ROOT / "speculative").rglob("*")):
            if path.suffix not in SOURCES:
                continue
            for include in INCLUDE.findall(path.read_text(encoding="utf-8")):
                self.assertNotIn(include, families, path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(unittest.main())
