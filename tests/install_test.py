#!/usr/bin/env python3
"""Installs the build, builds examples/generate against the installed copy and runs it.

install_test.py CMAKE BUILD_DIR SOURCE_DIR COMPILER SANITIZE VERIFIER DRAFT
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, BUILD, SOURCE, COMPILER, SANITIZE, VERIFIER, DRAFT = sys.argv[1:8]


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if result.returncode != 0:
        raise AssertionError(f"{command} gave {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.prefix = Path(cls.folder.name) / "prefix"
        run(CMAKE, "--install", BUILD, "--prefix", str(cls.prefix))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_only_public_headers_are_installed(self):
        headers = {path.parent for path in (self.prefix / "include").rglob("*.h")}
        self.assertEqual(headers, {self.prefix / "include" / "sidewinder"})
        names = {path.name for path in (self.prefix / "include" / "sidewinder").iterdir()}
        sources = {path.name for path in (Path(SOURCE) / "include" / "sidewinder").iterdir()}
        self.assertEqual(names, sources)

    def test_the_binary_runs(self):
        version = run(str(self.prefix / "bin" / "sidewinder"), "--version")
        self.assertRegex(version, r"^sidewinder \d+\.\d+\.\d+\n$")

    def test_the_example_builds_and_generates(self):
        build = Path(self.folder.name) / "example"
        flags = f"-fsanitize={SANITIZE}" if SANITIZE else ""
        run(CMAKE, "-S", f"{SOURCE}/examples/generate", "-B", str(build),
            f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={COMPILER}",
            f"-DCMAKE_CXX_FLAGS={flags}")
        run(CMAKE, "--build", str(build))
        out = run(str(build / "generate"), VERIFIER, DRAFT, "Once upon a time")
        text, figures = out.rstrip("\n").rsplit("\n", 1)
        self.assertGreater(len(text), 20)
        self.assertRegex(figures, r"^\d+ % of the draft's tokens accepted, \d\.\d\d tokens a round$")
        missing = subprocess.run([str(build / "generate"), "nowhere", DRAFT, "A"],
                                 capture_output=True, text=True, check=False,
                                 env={**os.environ, "LC_ALL": "C"})
        self.assertEqual(missing.returncode, 1)
        self.assertIn("nowhere", missing.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
