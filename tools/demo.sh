#!/usr/bin/env bash
# tools/demo.sh SIDEWINDER: shows the trained pair of checkpoints/ at work, first the text as it
# streams, then plain against speculative decoding.
set -euo pipefail
sidewinder=$1
cd "$(dirname "$0")/.."
model=${MODEL:-checkpoints/sidewinder-10m}
draft=${DRAFT:-checkpoints/sidewinder-draft-1m}
prompts=checkpoints/prompts/heldout.jsonl

for folder in "$model" "$draft"; do
  if [[ ! -f $folder/config.json ]]; then
    echo "demo.sh: $folder holds no model" >&2
    exit 1
  fi
done

step() {
  local argument
  printf '\n$ sidewinder'
  for argument in "$@"; do
    if [[ $argument =~ ^[A-Za-z0-9_./,-]+$ ]]; then printf ' %s' "$argument"
    else printf ' %s' "${argument@Q}"; fi
  done
  printf '\n\n'
  "$sidewinder" "$@"
}

step inspect --model "$model"
echo
echo "The text as it streams; on a terminal what the draft proposed and the verifier accepted is green."
step generate --model "$model" --draft "$draft" --stream --echo --max-new-tokens 200 \
  --temperature 0.8 --top-p 0.95 --seed 7 --prompt "Once upon a time, in a small house by the sea,"
echo
echo "Plain against speculative decoding, greedy: the same text, to the bit."
step bench --model "$model" --draft "$draft" --prompts "$prompts" --limit 8 --draft-tokens 1,2,3,4
