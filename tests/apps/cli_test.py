#!/usr/bin/env python3
"""The command line as people and scripts call it: cli_test.py SIDEWINDER GOLDEN_MODELS"""

import csv
import json
import math
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

SIDEWINDER, GOLDENS = sys.argv[1], Path(sys.argv[2])
VERIFIER, DRAFT = GOLDENS / "mamba2_tied", GOLDENS / "mamba1_tied"  # 64 tokens each
IDS = "1,2,3,4,5"
VOCAB = 64

STATS_KEYS = {
    "rounds", "drafted", "accepted", "acceptance_rate", "mean_acceptance_length",
    "acceptance_by_position", "ttft_ms", "decode_ms", "tokens_per_second", "state_bytes",
    "replay_bytes",
}


def call(*args, **options):
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    environment.update(options.pop("env", {}))
    return subprocess.run([SIDEWINDER, *map(str, args)], capture_output=True, timeout=120,
                          env=environment, check=False, **options)


def golden_greedy(case):
    """Prompt and continuation of a golden model's first greedy text."""
    greedy = case["greedy"][0]
    return case["prompts"][greedy["prompt"]]["tokens"], greedy["tokens"]


def tiny_tokenizer():
    """Byte-level BPE over 64 tokens: letters, a few signs, the two bytes of an e-acute."""
    tokens = ["<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
              "\u0120", "\u010a", ".", ",", "!", "'", "\u00c3", "\u00a9", "th", "the", "\u0120the"]
    assert len(tokens) == VOCAB
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": False,
                          "lstrip": False, "rstrip": False, "normalized": False,
                          "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": ["t h", "th e", "\u0120 the"]},
    }


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        cls.texts = cls.folder / "texts"  # a model with a tokenizer
        shutil.copytree(VERIFIER, cls.texts)
        (cls.texts / "tokenizer.json").write_text(json.dumps(tiny_tokenizer()))

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def succeed(self, *args, **options):
        result = call(*args, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.decode("utf-8")

    def fail_with(self, status, pattern, *args, **options):
        result = call(*args, **options)
        error = result.stderr.decode("utf-8", "replace")
        self.assertEqual(result.returncode, status, error)
        lines = error.splitlines()
        self.assertEqual(len(lines), 1, error)
        self.assertTrue(lines[0].startswith("sidewinder: "), error)
        self.assertRegex(lines[0], pattern)

    def generate(self, *args, model=VERIFIER, prompt=("--prompt-ids", IDS), **options):
        return json.loads(self.succeed("generate", "--model", model, *prompt, "--json",
                                       "--max-new-tokens", 24, "--ignore-eos", *args, **options))


class HelpTest(CliTest):
    def test_help_of_everything(self):
        self.assertIn("generate", self.succeed("--help"))
        for command in ["generate", "logits", "score", "tokenize", "bench", "inspect", "tune"]:
            text = self.succeed(command, "--help")
            self.assertIn("--model", text)
            self.assertIn(f"sidewinder {command}", text)
            self.assertLessEqual(max(map(len, text.splitlines())), 120)

    def test_version(self):
        self.assertRegex(self.succeed("--version"), r"^sidewinder \d+\.\d+\.\d+\n$")

    def test_usage_errors(self):
        for pattern, args in [
            ("subcommand", []),
            ("--nonsense", ["generate", "--model", VERIFIER, "--prompt-ids", "1", "--nonsense"]),
            ("--model", ["generate", "--prompt-ids", "1"]),
            ("exactly one of", ["generate", "--model", VERIFIER]),
            ("exactly one of", ["generate", "--model", VERIFIER, "--prompt", "a", "--prompt-ids", "1"]),
            ("--max-new-tokens", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                                  "--max-new-tokens", "0"]),
            ("--temperature.*'warm'", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                                       "--temperature", "warm"]),
            ("--temperature", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                               "--temperature", "-1"]),
            ("--top-p", ["generate", "--model", VERIFIER, "--prompt-ids", "1", "--top-p", "0"]),
            ("--min-p", ["generate", "--model", VERIFIER, "--prompt-ids", "1", "--min-p", "1"]),
            ("--dtype", ["generate", "--model", VERIFIER, "--prompt-ids", "1", "--dtype", "int4"]),
            ("--draft-tokens.*'99'.*15", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                                          "--draft", "ngram", "--draft-tokens", "99"]),
            ("--prompt-ids.*'x'", ["generate", "--model", VERIFIER, "--prompt-ids", "1,x"]),
            ("--prompt-ids.*'-1'", ["generate", "--model", VERIFIER, "--prompt-ids", "-1"]),
            ("--prompt-ids", ["generate", "--model", VERIFIER, "--prompt-ids", ""]),
            ("--stop", ["generate", "--model", VERIFIER, "--prompt-ids", "1", "--stop", ""]),
            ("--output", ["logits", "--model", VERIFIER, "--prompt-ids", "1"]),
            ("exactly one of", ["score", "--model", VERIFIER]),
            ("--draft-tokens", ["bench", "--model", VERIFIER, "--draft-tokens", "1,,2"]),
            ("--threads", ["inspect", "--model", VERIFIER, "--threads", "-2"]),
            ("exactly one of", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                                "--prompt-tokens", "4"]),
            ("--prompt-tokens", ["generate", "--model", VERIFIER, "--prompt-tokens", "0"]),
            ("--prompt-tokens", ["bench", "--model", VERIFIER, "--prompt-tokens", "4", "--prompts",
                                 "x.jsonl"]),
            ("--synthetic-acceptance", ["generate", "--model", VERIFIER, "--prompt-ids", "1",
                                        "--synthetic-acceptance", "1.5"]),
            ("--synthetic-acceptance", ["bench", "--model", VERIFIER,
                                        "--synthetic-acceptance", "nan"]),
            ("--batch", ["bench", "--model", VERIFIER, "--batch", "0"]),
        ]:
            with self.subTest(args=args):
                self.fail_with(2, pattern, *args)


class GenerateTest(CliTest):
    def test_json_has_the_promised_keys(self):
        result = self.generate("--draft", DRAFT, "--draft-tokens", 3)
        self.assertLessEqual({"prompt_tokens", "token_ids", "text", "finish_reason", "stats"},
                             result.keys())
        self.assertEqual(result["stats"].keys(), STATS_KEYS)
        self.assertEqual(result["prompt_tokens"], 5)
        self.assertEqual(len(result["token_ids"]), 24)
        self.assertEqual(result["finish_reason"], "length")
        stats = result["stats"]
        self.assertEqual(len(stats["acceptance_by_position"]), 3)
        self.assertAlmostEqual(stats["mean_acceptance_length"],
                               1 + stats["accepted"] / stats["rounds"])
        self.assertGreater(stats["state_bytes"], 0)
        self.assertGreater(stats["replay_bytes"], 0)

    def test_any_draft_gives_the_same_tokens(self):
        plain = self.generate()
        self.assertEqual(plain["stats"]["drafted"], 0)
        for draft in [DRAFT, VERIFIER, "ngram", "none"]:
            for tokens in ["1", "4", "auto"]:
                with self.subTest(draft=draft, tokens=tokens):
                    result = self.generate("--draft", draft, "--draft-tokens", tokens)
                    self.assertEqual(result["token_ids"], plain["token_ids"])
        for policy in ["every-round", "when-full", "snapshot"]:
            with self.subTest(policy=policy):
                result = self.generate("--draft", DRAFT, "--checkpoint-policy", policy)
                self.assertEqual(result["token_ids"], plain["token_ids"])

    def test_the_model_as_its_own_draft_is_always_right(self):
        stats = self.generate("--draft", VERIFIER, "--draft-tokens", 3)["stats"]
        self.assertEqual(stats["acceptance_rate"], 1)

    def test_golden_greedy_texts(self):
        cases = json.loads((GOLDENS / "cases.json").read_text())
        for case in cases["models"]:
            prompt, tokens = golden_greedy(case)
            with self.subTest(model=case["name"]):
                result = json.loads(self.succeed(
                    "generate", "--model", GOLDENS / case["name"], "--ignore-eos", "--json",
                    "--prompt-ids", ",".join(map(str, prompt)),
                    "--max-new-tokens", len(tokens)))
                self.assertEqual(result["token_ids"], tokens)

    def test_without_a_tokenizer_the_ids_are_printed(self):
        ids = self.generate()["token_ids"]
        for flags in [[], ["--stream"]]:
            out = self.succeed("generate", "--model", VERIFIER, "--prompt-ids", IDS,
                               "--max-new-tokens", 24, "--ignore-eos", *flags)
            self.assertEqual(out, ",".join(map(str, ids)) + "\n")

    def test_text_needs_a_tokenizer(self):
        self.fail_with(1, "no tokenizer.json.*--prompt-ids", "generate", "--model", VERIFIER,
                       "--prompt", "the")
        self.fail_with(1, "no tokenizer.json", "generate", "--model", VERIFIER, "--prompt-ids", "1",
                       "--stop", "the")

    def test_ids_outside_of_the_vocabulary(self):
        self.fail_with(1, "64 is not a token.*0 to 63", "generate", "--model", VERIFIER,
                       "--prompt-ids", "1,64")

    def test_prompts_from_text_file_and_stdin_agree(self):
        path = self.folder / "prompt.txt"
        path.write_bytes(b"the cat")
        texts = [self.generate(model=self.texts, prompt=prompt, **options) for prompt, options in [
            (("--prompt", "the cat"), {}),
            (("--prompt-file", path), {}),
            (("--prompt-file", "-"), {"input": b"the cat"}),
        ]]
        self.assertEqual(len({t["text"] for t in texts}), 1)
        self.assertEqual(len({t["prompt_tokens"] for t in texts}), 1)
        self.assertNotEqual(texts[0]["text"], "")

    def test_invalid_utf8_is_replaced(self):
        self.generate(model=self.texts, prompt=("--prompt", b"the \xff\xfe cat".decode(
            "utf-8", "surrogateescape")))

    def test_stream_prints_the_same_text(self):
        text = self.generate(model=self.texts, prompt=("--prompt", "the"))["text"]
        for flags in [[], ["--stream"], ["--draft", self.texts, "--stream"]]:
            out = self.succeed("generate", "--model", self.texts, "--prompt", "the",
                               "--max-new-tokens", 24, "--ignore-eos", *flags)
            self.assertEqual(out, text + "\n")

    def test_stop_text_ends_before_it(self):
        full = self.generate(model=self.texts, prompt=("--prompt", "the"))["text"]
        stop = full[len(full) // 2]
        result = self.generate("--stop", stop, "--stop", "\x01", model=self.texts,
                               prompt=("--prompt", "the"))
        self.assertEqual(result["text"], full[:full.index(stop)])
        self.assertEqual(result["finish_reason"], "stop")
        streamed = self.succeed("generate", "--model", self.texts, "--prompt", "the", "--stop",
                                stop, "--stream", "--ignore-eos", "--max-new-tokens", 24)
        self.assertEqual(streamed, result["text"] + "\n")

    def test_a_seed_reproduces_a_text(self):
        first, second = (self.generate("--temperature", "0.9", "--seed", 5, "--draft", DRAFT)
                         for _ in range(2))
        other = self.generate("--temperature", "0.9", "--seed", 6, "--draft", DRAFT)
        self.assertEqual(first["token_ids"], second["token_ids"])
        self.assertNotEqual(first["token_ids"], other["token_ids"])

    def test_several_sequences(self):
        lines = self.succeed("generate", "--model", VERIFIER, "--prompt-ids", IDS, "--json",
                             "--temperature", "1", "--num-sequences", 3).splitlines()
        texts = [tuple(json.loads(line)["token_ids"]) for line in lines]
        self.assertEqual(len(texts), 3)
        self.assertEqual(len(set(texts)), 3)

    def test_saved_state_continues_to_the_bit(self):
        state = self.folder / "text.state"
        whole = self.generate("--draft", DRAFT)["token_ids"]
        head = json.loads(self.succeed("generate", "--model", VERIFIER, "--draft", DRAFT,
                                       "--prompt-ids", IDS, "--max-new-tokens", 10, "--ignore-eos",
                                       "--save-state", state, "--json"))["token_ids"]
        tail = json.loads(self.succeed("generate", "--model", VERIFIER, "--draft", DRAFT,
                                       "--restore-state", state, "--max-new-tokens", 14,
                                       "--ignore-eos", "--json"))["token_ids"]
        self.assertEqual(head + tail, whole)
        self.fail_with(1, "--save-state.*not a regular file", "generate", "--model", VERIFIER,
                       "--prompt-ids", IDS, "--save-state", "/dev/null")
        state.write_bytes(state.read_bytes()[:-5])
        self.fail_with(1, "text.state", "generate", "--model", VERIFIER, "--draft", DRAFT,
                       "--restore-state", state)

    def test_interrupt_ends_with_what_there_is(self):
        process = subprocess.Popen(
            [SIDEWINDER, "generate", "--model", str(VERIFIER), "--prompt-ids", IDS, "--stream",
             "--ignore-eos", "--max-new-tokens", "10000000"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(64)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)
        self.assertTrue(out.endswith(b"\n"))
        self.assertIn(b"cancelled", error)


class SyntheticTest(CliTest):
    """Models of random weights, made-up prompts and acceptance by lot."""

    TINY, TINY_DRAFT = "synthetic:mamba2-tiny", "synthetic:mamba-tiny"

    def test_models_without_files(self):
        made_up = ("--prompt-tokens", 16)
        plain, again = (self.generate(model=self.TINY, prompt=made_up) for _ in range(2))
        self.assertEqual(plain["prompt_tokens"], 16)
        self.assertEqual(plain["token_ids"], again["token_ids"])
        self.assertIsNone(plain["synthetic_acceptance"])
        drafted = self.generate("--draft", self.TINY_DRAFT, model=self.TINY, prompt=made_up)
        self.assertEqual(drafted["token_ids"], plain["token_ids"])
        info = json.loads(self.succeed("inspect", "--model", self.TINY, "--json"))
        self.assertEqual((info["family"], info["layers"], info["hidden_size"]), ("mamba2", 2, 64))
        self.fail_with(1, "synthetic preset.*mamba-2.8b", "inspect", "--model", "synthetic:big")
        self.fail_with(1, "vocab is \"x\"", "inspect", "--model", "synthetic:mamba-tiny:vocab=x")

    def test_hybrids(self):
        made_up = ("--prompt-tokens", 70)
        for model in ["jamba-tiny", "zamba2-tiny", "qwen3-next-tiny"]:
            model = "synthetic:" + model
            plain = self.generate(model=model, prompt=made_up)
            drafted = self.generate("--draft", "synthetic:mamba2-tiny:vocab=256", model=model,
                                    prompt=made_up)
            self.assertEqual(drafted["token_ids"], plain["token_ids"])
        wide, narrow = (json.loads(self.succeed("inspect", "--model", model, "--kv-dtype", dtype,
                                                "--json")) for dtype in ["float32", "bfloat16"])
        self.assertEqual(wide["kv_dtype"], "float32")
        self.assertEqual(wide["kv_bytes_per_token"], 2 * narrow["kv_bytes_per_token"])

    def test_acceptance_by_lot_is_labelled(self):
        lot = ["--draft", self.TINY_DRAFT, "--draft-tokens", 3, "--synthetic-acceptance"]
        for probability in [0, 1]:
            result = self.generate(*lot, probability, model=self.TINY)
            self.assertEqual(result["synthetic_acceptance"], probability)
            self.assertEqual(result["stats"]["acceptance_rate"], probability)
        shown = call("generate", "--model", self.TINY, "--prompt-ids", IDS, *lot, "0.8")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertRegex(shown.stderr.decode(), "SYNTHETIC ACCEPTANCE: .* probability 0.8 ")
        bench = ["bench", "--model", self.TINY, *lot, "0.8", "--prompt-tokens", 4,
                 "--max-new-tokens", 8]
        self.assertRegex(self.succeed(*bench), "(?m)^SYNTHETIC ACCEPTANCE: .* probability 0.8 ")
        result = json.loads(self.succeed(*bench, "--json"))
        self.assertEqual(result["synthetic_acceptance"], 0.8)
        self.assertIsNone(result["results"][1]["identical"])


class ColorTest(CliTest):
    def run_on_terminal(self, *args, **env):
        """Output of the program when stdout is a terminal."""
        leader, follower = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        environment.update({"TERM": "xterm", **env})
        process = subprocess.Popen(
            [SIDEWINDER, "generate", "--model", str(self.texts), "--draft", str(self.texts),
             "--prompt", "the", "--ignore-eos", "--max-new-tokens", "16", "--draft-tokens", "3",
             "--stream", *args],
            stdout=follower, stderr=subprocess.DEVNULL, env=environment)
        os.close(follower)
        out = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            out += piece
        os.close(leader)
        self.assertEqual(process.wait(), 0)
        return out.decode("utf-8").replace("\r\n", "\n")

    def test_color_rules(self):
        piped = self.succeed("generate", "--model", self.texts, "--draft", self.texts, "--prompt",
                             "the", "--ignore-eos", "--max-new-tokens", 16, "--stream")
        self.assertNotIn("\x1b", piped)
        colored = self.run_on_terminal()
        self.assertIn("\x1b[32m", colored)
        self.assertEqual(re.sub(r"\x1b\[\d+m", "", colored), piped)
        self.assertEqual(self.run_on_terminal(NO_COLOR="1"), piped)
        self.assertEqual(self.run_on_terminal(TERM="dumb"), piped)
        self.assertEqual(self.run_on_terminal("--color", "never"), piped)
        self.assertIn("\x1b[32m", self.run_on_terminal("--color", "always", NO_COLOR="1"))

    def test_json_is_never_colored(self):
        self.assertNotIn("\\u001b", self.succeed(
            "generate", "--model", self.texts, "--draft", self.texts, "--prompt", "the", "--json",
            "--color", "always", "--max-new-tokens", 8))


class LogitsTest(CliTest):
    def test_rows_are_the_golden_ones(self):
        cases = json.loads((GOLDENS / "cases.json").read_text())
        case = next(c for c in cases["models"] if c["name"] == "mamba2_tied")
        tokens, continuation = golden_greedy(case)
        path = self.folder / "logits.npy"
        out = self.succeed("logits", "--model", VERIFIER, "--prompt-ids",
                           ",".join(map(str, tokens)), "--output", path)
        self.assertEqual(out, "")
        data = path.read_bytes()
        self.assertEqual(data[:6], b"\x93NUMPY")
        size = struct.unpack("<H", data[8:10])[0]
        header = data[10:10 + size].decode("latin1")
        self.assertIn("'<f4'", header)
        self.assertIn(f"({len(tokens)}, {VOCAB})", header)
        values = struct.unpack(f"<{len(tokens) * VOCAB}f", data[10 + size:])
        last = values[-VOCAB:]
        self.assertEqual(last.index(max(last)), continuation[0])

    def test_errors(self):
        self.fail_with(1, "missing", "logits", "--model", VERIFIER, "--prompt-ids", "1",
                       "--output", self.folder / "missing" / "x.npy")
        self.fail_with(1, "not a regular file", "logits", "--model", VERIFIER, "--prompt-ids", "1",
                       "--output", "/dev/null")
        self.fail_with(1, "64 is not a token", "logits", "--model", VERIFIER, "--prompt-ids", "64",
                       "--output", self.folder / "x.npy")
        self.assertFalse((self.folder / "x.npy").exists())


class ScoreTest(CliTest):
    def test_figures_agree(self):
        path = self.folder / "score.txt"
        text = "the cat and the dog went to the sea."
        path.write_text(text)
        score = json.loads(self.succeed("score", "--model", self.texts, "--text-file", path,
                                        "--json"))
        nll, predicted = score["negative_log_likelihood"], score["predicted_tokens"]
        self.assertEqual(score["bytes"], len(text))
        self.assertAlmostEqual(score["perplexity"], math.exp(nll / predicted), places=6)
        self.assertAlmostEqual(score["bits_per_byte"], nll / math.log(2) / len(text), places=9)
        self.assertIn("perplexity", self.succeed("score", "--model", self.texts, "--text-file", path))
        self.assertEqual(score, json.loads(self.succeed(
            "score", "--model", self.texts, "--text-file", "-", "--json", input=text.encode())))

    def test_ids_without_a_tokenizer(self):
        score = json.loads(self.succeed("score", "--model", VERIFIER, "--prompt-ids", IDS, "--json"))
        self.assertEqual(score["tokens"], 5)
        self.assertIsNone(score["bits_per_byte"])
        self.succeed("score", "--model", VERIFIER, "--prompt-ids", IDS)

    def test_errors(self):
        self.fail_with(1, "at least 2", "score", "--model", VERIFIER, "--prompt-ids", "1")
        self.fail_with(1, "is a directory", "score", "--model", self.texts, "--text-file",
                       self.folder)
        self.fail_with(1, "nothing.txt.*No such file", "score", "--model", self.texts,
                       "--text-file", "nothing.txt")


class TokenizeTest(CliTest):
    def test_there_and_back(self):
        texts = ["the cat", "the\nsea \u00e9", "", "plain, words!"]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        ids = self.succeed("tokenize", "--model", self.texts, input=lines.encode())
        self.assertEqual(len(ids.splitlines()), len(texts))
        self.assertEqual(json.loads(ids.splitlines()[0])["ids"][0], 62)  # "the"
        path = self.folder / "ids.jsonl"
        path.write_text(ids.rstrip("\n"))  # the last line may lack its end
        back = self.succeed("tokenize", "--model", self.texts / "tokenizer.json", "--jsonl", path,
                            "--decode")
        self.assertEqual([json.loads(line)["text"] for line in back.splitlines()], texts)

    def test_special_tokens_can_be_left_out(self):
        line = b'{"ids": [0, 62]}'
        kept = self.succeed("tokenize", "--model", self.texts, "--decode", input=line)
        self.assertEqual(json.loads(kept)["text"], "<|endoftext|>the")
        bare = self.succeed("tokenize", "--model", self.texts, "--decode", "--no-special-tokens",
                            input=line)
        self.assertEqual(json.loads(bare)["text"], "the")

    def test_answers_line_by_line(self):
        process = subprocess.Popen([SIDEWINDER, "tokenize", "--model", str(self.texts)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3):
            process.stdin.write(b'{"text": "the"}\n')
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline()), {"ids": [62]})
        process.stdin.close()
        self.assertEqual(process.wait(), 0)
        process.stdout.close()

    def test_bad_lines_are_named(self):
        for line, pattern in [(b"{", "line 3"), (b'{"txt": 1}', 'line 3.*"text"'),
                              (b'{"text": 1}', 'line 3.*"text"'), (b"[1]", "line 3"),
                              (b'{"text": "\xff"}', "line 3")]:
            with self.subTest(line=line):
                self.fail_with(1, pattern, "tokenize", "--model", self.texts,
                               input=b'{"text": "a"}\n\n' + line + b"\n")
        for line in [b'{"ids": [-1]}', b'{"ids": ["a"]}', b'{"ids": 1}', b'{"ids": [1.5]}',
                     b'{"ids": [99999999999999999999]}', b'{"ids": [18446744073709551615]}']:
            with self.subTest(line=line):
                self.fail_with(1, 'line 1.*"ids"', "tokenize", "--model", self.texts, "--decode",
                               input=line)


class TuneTest(CliTest):
    def test_profile_report_and_use(self):
        profile, report = self.folder / "p" / "profile.json", self.folder / "report"
        tune = ["tune", "--model", VERIFIER, "--draft", DRAFT, "--device", "cpu", "--threads", 1,
                "--time-budget", 2, "--output", profile]
        text = self.succeed(*tune, "--report", report)
        self.assertIn("break-even", text)
        written = json.loads(profile.read_text())
        self.assertEqual((written["version"], written["threads"]), (1, 1))
        self.assertGreater(len(written["verify"]), 8)
        self.assertGreater(len(written["rounds"]), 6)
        for name in ["report.md", "report.html", "profile.json"]:
            self.assertIn("mamba2", (report / name).read_text())
        page = (report / "report.html").read_text()
        self.assertIn("<svg", page)
        self.assertNotRegex(page, r"<script|src=|href=|url\(")

        # What is there is kept.
        again = json.loads(self.succeed(*tune, "--resume", "--json"))
        self.assertEqual(again["read_bytes_per_second"], written["read_bytes_per_second"])
        self.assertEqual(again["verify"][:9], written["verify"][:9])

        generate = ["generate", "--model", VERIFIER, "--draft", DRAFT, "--device", "cpu",
                    "--threads", 1, "--prompt-ids", IDS, "--draft-tokens", "auto", "--json"]
        self.assertEqual(json.loads(self.succeed(*generate, "--profile", profile))["token_ids"],
                         json.loads(self.succeed(*generate, "--profile", "builtin"))["token_ids"])
        self.fail_with(1, "does not fit: .*threads", *generate[:8], 2, *generate[9:],
                       "--profile", profile)
        profile.write_text("{}")
        self.fail_with(1, 'not a tuning profile; "format"', *generate, "--profile", profile)

    def test_is_found_in_the_cache(self):
        cache = {"XDG_CACHE_HOME": str(self.folder / "cache")}
        model = ["--model", VERIFIER, "--device", "cpu", "--threads", 1]
        self.succeed("tune", *model, "--time-budget", 1, env=cache)
        told = json.loads(self.succeed("inspect", *model, "--json", env=cache))
        self.assertTrue(told["tuning_measured"])
        self.assertIn("cache/sidewinder/profiles", told["tuning"])
        told = json.loads(self.succeed("inspect", *model[:-1], 2, "--json", env=cache))
        self.assertFalse(told["tuning_measured"])
        self.assertIn("for 1 threads, not 2", told["tuning_notes"][0])
        bad = self.folder / "file"
        bad.write_text("")
        self.fail_with(1, "--report", "tune", *model, "--report", bad, env=cache)
        self.fail_with(2, "--time-budget", "tune", *model, "--time-budget", 0)


class BenchTest(CliTest):
    def test_json(self):
        result = json.loads(self.succeed("bench", "--model", VERIFIER, "--draft", DRAFT,
                                         "--draft-tokens", "1,3,auto", "--max-new-tokens", 12,
                                         "--limit", 2, "--json"))
        rows = result["results"]
        self.assertEqual([row["draft_tokens"] for row in rows], [0, 1, 3, "auto"])
        for row in rows:
            self.assertLessEqual({"tokens_per_second", "acceptance_rate", "mean_acceptance_length",
                                  "speedup"}, row.keys())
            self.assertTrue(row["identical"])
        self.assertEqual(rows[0]["speedup"], 1)
        self.assertGreater(result["floor_tokens_per_second"], 0)
        self.assertIsNone(result["synthetic_acceptance"])

    def test_batches(self):
        bench = ["bench", "--model", VERIFIER, "--draft", DRAFT, "--draft-tokens", 2,
                 "--ignore-eos", "--json", "--max-new-tokens", 12]
        result = json.loads(self.succeed(*bench, "--batch", 3, "--limit", 4))
        self.assertEqual((result["batch"], result["prompts"]), (3, 6))  # the last batch is filled up
        plain, drafted = result["results"]
        self.assertEqual(plain["new_tokens"], 6 * 12)
        self.assertEqual(plain["batch_rounds"], 2 * 12)
        self.assertEqual(plain["sequences_per_round"], 3)
        self.assertTrue(drafted["identical"])
        self.assertEqual(plain["floor_bytes_per_round"]["weights"], result["model"]["weight_bytes"])
        result = json.loads(self.succeed(*bench, "--batch", 2, "--prompt-tokens", 5))
        self.assertEqual((result["batch"], result["prompts"]), (2, 2))
        self.assertTrue(result["results"][1]["identical"])
        self.assertIn("2 at a time", self.succeed(*bench[:-3], "--batch", 2, "--max-new-tokens", 4))

    def test_table(self):
        out = self.succeed("bench", "--model", self.texts, "--draft", "ngram", "--draft-tokens", 2,
                           "--max-new-tokens", 8, "--limit", 1, "--repeat", 3)
        for word in ["machine", "floor", "plain", "speed-up", "accepted"]:
            self.assertIn(word, out)

    def test_prompts_of_every_kind(self):
        path = self.folder / "prompts.jsonl"
        path.write_text('{"prompt": "the cat"}\n{"text": "the dog"}\n'
                        '{"turns": ["the sea", "and"]}\n{"prompt_ids": [1, 2]}\n')
        result = json.loads(self.succeed("bench", "--model", self.texts, "--prompts", path,
                                         "--max-new-tokens", 4, "--temperature", 1, "--json"))
        self.assertEqual(result["prompts"], 4)
        self.assertEqual(result["requests"], 5)
        path.write_text('{"prompt": "the cat"}\n{"words": "the dog"}\n')
        self.fail_with(1, "prompts.jsonl: line 2", "bench", "--model", self.texts, "--prompts", path)
        path.write_text("")
        self.fail_with(1, "prompts.jsonl", "bench", "--model", self.texts, "--prompts", path)


    def bench(self, *args, model=VERIFIER, max_new_tokens=8):
        return json.loads(self.succeed("bench", "--model", model, "--ignore-eos", "--json",
                                       "--max-new-tokens", max_new_tokens, *args))

    def count_tokens(self, text):
        out = self.succeed("tokenize", "--model", self.texts,
                           input=json.dumps({"text": text}).encode())
        return len(json.loads(out)["ids"])

    def test_figures_of_a_configuration(self):
        result = self.bench("--draft", DRAFT, "--draft-tokens", 3, "--limit", 3, "--repeat", 2)
        plain, drafted = result["results"]
        self.assertIsNone(plain["speedup_interval"])
        low, high = drafted["speedup_interval"]
        self.assertLessEqual(low, high)
        by_position = drafted["acceptance_by_position"]
        conditional = drafted["conditional_acceptance_by_position"]
        self.assertEqual(by_position[0], conditional[0])
        self.assertAlmostEqual(drafted["acceptance_rate"],
                               drafted["accepted"] / drafted["drafted"])
        self.assertAlmostEqual(drafted["tokens_per_round"],
                               drafted["new_tokens"] / drafted["rounds"])
        for row in result["results"]:
            for key in ["ttft_mean_ms", "time_per_output_token_mean_ms", "tokens_per_second_p10",
                        "end_to_end_speedup", "state_bytes_per_request", "log_bytes_per_request"]:
                self.assertGreater(row[key], 0, key)
            split = row["time_split"]
            self.assertAlmostEqual(split["commit_ms"], split["judge_ms"] + split["roll_back_ms"] +
                                   split["publish_ms"])
            moved = row["moved_bytes_per_round"]
            self.assertEqual(moved["weights"], result["model"]["weight_bytes"])
            self.assertGreater(moved["states_read"], 0)
            self.assertEqual(row["rollback"]["bytes_copied"], 0)
        self.assertEqual(plain["time_split"]["rounds"], 3 * 8)
        self.assertGreater(drafted["time_split"]["draft_ms"], 0)
        self.assertIn("sidewinder bench --model", result["command"])
        [model] = result["cost_models"]
        self.assertEqual(model["break_even_acceptance"].keys(), {"3"})
        without = self.bench("--limit", 1, "--no-time-split")["results"][0]
        self.assertIsNone(without["time_split"])

    def test_sweep(self):
        result = self.bench("--draft", f"{DRAFT},ngram", "--draft-tokens", "1,2", "--batch", "1,3",
                            "--temperature", "0,0.7", "--context", "0,12",
                            "--checkpoint-policy", "every-round,when-full,snapshot",
                            "--prompt-tokens", 4, "--limit", 3, "--no-time-split")
        rows = result["results"]
        self.assertEqual(len(rows), 2 * 2 * 2 * 3 * (1 + 2 * 2))
        self.assertEqual(result["batch"], [1, 3])
        self.assertEqual(result["checkpoint_policy"], ["every-round", "when-full", "snapshot"])
        self.assertEqual([row["draft"] for row in rows[:5]],
                         ["none", str(DRAFT), str(DRAFT), "ngram", "ngram"])
        for row in rows:
            self.assertEqual(row["identical"], True if row["temperature"] == 0 else None)
            self.assertEqual(row["new_tokens"], 3 * 8)
            self.assertEqual(row["prompt_tokens"], 3 * (row["context"] or 4))
        table = self.succeed("bench", "--model", VERIFIER, "--batch", "1,2", "--limit", 2,
                             "--max-new-tokens", 4)
        self.assertIn("--- batch 2", table)

    def test_snapshots_cost_a_state_a_row(self):
        sizes = {}
        for policy in ["every-round", "snapshot"]:
            result = self.bench("--draft", DRAFT, "--draft-tokens", 3, "--limit", 1,
                                "--checkpoint-policy", policy)
            sizes[policy] = result["results"][1]
        self.assertEqual(sizes["every-round"]["rollback"]["snapshot_bytes_per_round"], 0)
        self.assertGreater(sizes["snapshot"]["rollback"]["snapshot_bytes_per_round"], 0)
        self.assertGreater(sizes["every-round"]["log_bytes_per_request"], 0)
        self.assertEqual(sizes["snapshot"]["log_bytes_per_request"], 0)

    def test_later_turns_see_the_answers(self):
        path = self.folder / "turns.jsonl"
        path.write_text('{"turns": ["the cat", "the dog"]}\n')
        answer = self.generate(model=self.texts, prompt=("--prompt", "the cat"))["text"]
        row = self.bench("--prompts", path, model=self.texts, max_new_tokens=24)["results"][0]
        self.assertEqual(row["requests"], 2)
        self.assertEqual(row["prompt_tokens"],
                         self.count_tokens("the cat") +
                         self.count_tokens(f"the cat{answer}\n\nthe dog"))

    def test_chat_template(self):
        model = self.folder / "chat"
        shutil.copytree(self.texts, model)
        (model / "tokenizer_config.json").write_text(json.dumps({
            "eos_token": "<|endoftext|>",
            "chat_template": "{% for m in messages %}{{ eos_token + m.role + m.content }}"
                             "{% endfor %}{% if add_generation_prompt %}!{% endif %}"}))
        path = self.folder / "chat.jsonl"
        path.write_text('{"prompt": "the cat"}\n')
        def tokens(*args):
            result = self.bench("--prompts", path, "--draft", "ngram", *args, model=model)
            return result["results"][0]["prompt_tokens"], result["chat_template"]
        self.assertEqual(tokens(), (self.count_tokens("<|endoftext|>userthe cat!"), True))
        self.assertEqual(tokens("--no-chat-template"), (self.count_tokens("the cat"), False))
        path.write_text('{"text": "the cat"}\n')
        self.assertEqual(tokens(), (self.count_tokens("the cat"), False))
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% if %}"}))
        self.fail_with(1, "tokenizer_config.json: chat_template", "bench", "--model", model,
                       "--prompts", path)

    def test_categories(self):
        path = self.folder / "categories.jsonl"
        path.write_text("".join(json.dumps({"prompt_ids": [i + 1, 2], "category": c}) + "\n"
                                for i, c in enumerate("aabcc")))
        rows = self.bench("--prompts", path, "--draft", "ngram", "--draft-tokens", 2)["results"]
        for row in rows:
            self.assertEqual([(c["category"], c["requests"]) for c in row["categories"]],
                             [("a", 2), ("b", 1), ("c", 2)])
            self.assertEqual(sum(c["new_tokens"] for c in row["categories"]), row["new_tokens"])
        result = self.bench("--prompts", path, "--category", "a,c", "--limit-per-category", 1)
        self.assertEqual(result["prompts"], 2)
        self.fail_with(1, "'d'; there are a, b, c", "bench", "--model", VERIFIER, "--prompts", path,
                       "--category", "d")

    def test_csv_and_page(self):
        table, page = self.folder / "figures.csv", self.folder / "report.html"
        result = self.bench("--draft", "ngram", "--draft-tokens", "1,2,auto", "--limit", 3,
                            "--csv", table, "--report", page, "--synthetic-acceptance", "0.9,0.5")
        with table.open(newline="") as file:
            lines = list(csv.DictReader(file))
        self.assertEqual([line["draft_tokens"] for line in lines], ["0", "1", "2", "auto"])
        for line, row in zip(lines, result["results"]):
            self.assertEqual(line["synthetic_acceptance"], "0.9,0.5")
            self.assertAlmostEqual(float(line["tokens_per_second"]), row["tokens_per_second"], 2)
        html = page.read_text()
        xml.etree.ElementTree.fromstring(html.replace("<!DOCTYPE html>", ""))
        for outside in ["http:", "https:", "<script", "<link", "src=", "url("]:
            self.assertNotIn(outside, html)
        self.assertIn("SYNTHETIC ACCEPTANCE", html)
        self.assertGreaterEqual(html.count("<svg"), 4)
        self.fail_with(1, "--report: .*nowhere", "bench", "--model", VERIFIER, "--report",
                       self.folder / "nowhere" / "x.html")
        self.fail_with(1, "--csv: /dev/null is not a regular file", "bench", "--model", VERIFIER,
                       "--csv", "/dev/null")
        self.assertEqual([p for p in self.folder.iterdir() if p.name.endswith(".tmp")], [])

    def test_synthetic_acceptance_by_length(self):
        lots = ["--draft", DRAFT, "--prompt-tokens", 4, "--limit", 4, "--no-time-split",
                "--synthetic-acceptance", "length:2.5"]
        for row in self.bench(*lots, "--draft-tokens", "2,4", max_new_tokens=400)["results"][1:]:
            self.assertAlmostEqual(row["mean_acceptance_length"], 2.5, delta=0.2)
        self.fail_with(1, "length:2.5.*at most 2", "bench", "--model", VERIFIER, *lots,
                       "--draft-tokens", "1")
        self.fail_with(1, "auto", "bench", "--model", VERIFIER, *lots, "--draft-tokens", "auto")

    def test_interrupt_shows_what_there_is(self):
        process = subprocess.Popen(
            [SIDEWINDER, "bench", "--model", str(VERIFIER), "--draft", "ngram", "--prompt-tokens",
             "4", "--limit", "4000", "--ignore-eos", "--max-new-tokens", "64", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()  # progress: a twentieth of the work is done
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, error)
        result = json.loads(out)
        self.assertTrue(result["interrupted"])
        self.assertGreater(result["prompts"], 0)
        self.assertLess(result["prompts"], 4000)


class InspectTest(CliTest):
    def test_json_and_table(self):
        info = json.loads(self.succeed("inspect", "--model", VERIFIER, "--json"))
        self.assertEqual(info["family"], "mamba2")
        self.assertEqual(info["vocab_size"], VOCAB)
        for key in ["layers", "parameters", "weight_bytes", "state_bytes", "log_row_bytes",
                    "limit_tokens_per_second"]:
            self.assertGreater(info[key], 0, key)
        self.assertIn("limit", self.succeed("inspect", "--model", VERIFIER))


class EnvironmentTest(CliTest):
    def test_models_that_cannot_be_loaded(self):
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        for model in ["nowhere", empty, VERIFIER / "config.json"]:
            with self.subTest(model=model):
                self.fail_with(1, re.escape(str(model)), "inspect", "--model", model)
        self.fail_with(1, "nowhere", "generate", "--model", VERIFIER, "--draft", "nowhere",
                       "--prompt-ids", "1")
        self.fail_with(1, "vocab", "generate", "--model", VERIFIER, "--draft",
                       GOLDENS / "mamba2_groups", "--prompt-ids", "1")
        self.fail_with(1, "device", "generate", "--model", VERIFIER, "--prompt-ids", "1",
                       "--device", "abacus")

    def test_drafts_of_another_vocabulary(self):
        text, pieces = GOLDENS / "mamba2_text", GOLDENS / "mamba1_pieces"
        args = ["generate", "--model", text, "--prompt", "the model reads", "--max-new-tokens", 24,
                "--ignore-eos"]
        plain = call(*args)
        drafted = call(*args, "--draft", pieces)
        self.assertEqual(plain.stdout, drafted.stdout)
        self.assertIn(b"another vocabulary", drafted.stderr)
        self.assertNotIn(b"another vocabulary", plain.stderr)
        result = json.loads(self.succeed(*args, "--draft", pieces, "--json"))
        self.assertTrue(result["draft_is_retokenized"])
        table = self.succeed("bench", "--model", text, "--draft", pieces, "--limit", 1,
                             "--max-new-tokens", 8, "--draft-tokens", 2)
        self.assertIn("another vocabulary", table)

    def test_closed_and_full_stdout(self):
        for redirect in [">&-", "> /dev/full", "| true"]:
            with self.subTest(redirect=redirect):
                script = (f"set -o pipefail; '{SIDEWINDER}' generate --model '{VERIFIER}' "
                          f"--prompt-ids 1 --ignore-eos --max-new-tokens 50000 --stream {redirect}")
                result = subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                                        timeout=120, check=False)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertRegex(result.stderr, r"^sidewinder: [^\n]*standard output[^\n]*\n$")

    def test_closed_stdin(self):
        script = f"'{SIDEWINDER}' tokenize --model '{self.texts}' <&-"
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^sidewinder: standard input: [^\n]*\n$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
