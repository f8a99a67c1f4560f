#!/usr/bin/env python3
"""summarize.py BENCH.jsonl: the table of whole generations that tools/gpu/run.sh measured.

Each line of the file is {"name": ..., "report": what `sidewinder bench --json` printed}.
"""

import json
import sys


def rows(name, report):
    for row in report["results"]:
        k = row["draft_tokens"]
        label = f"{name}, plain" if k == 0 else f"{name}, K={k}"
        yield (label, row["tokens_per_second"], row["ms_per_round"],
               row["mean_acceptance_length"], row["floor_tokens_per_second"],
               row["fraction_of_floor"])


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        measured = [json.loads(line) for line in file]
    print(f"{'':52} {'tokens/s':>9} {'ms/round':>9} {'a round':>8} {'floor':>9} {'of floor':>9}")
    for entry in measured:
        for label, speed, ms, length, floor, share in rows(entry["name"], entry["report"]):
            print(f"{label:52} {speed:9.1f} {ms:9.3f} {length:8.2f} {floor:9.1f} {share:8.1%}")
    for entry in measured:
        if not entry["name"].endswith("5 rows"):
            continue
        one, five = entry["report"]["results"]
        drafted = five["drafted"] / five["rounds"]
        print(f"verifying {1 + drafted:.2f} rows over 1 row: "
              f"{five['ms_per_round'] / one['ms_per_round']:.3f}")
    lots = {json.dumps(entry["report"]["synthetic_acceptance"]) for entry in measured} - {"null"}
    if lots:
        print("SYNTHETIC ACCEPTANCE: where there is a draft, each proposal is accepted with "
              f"probability {', '.join(sorted(lots))}")


if __name__ == "__main__":
    main()
