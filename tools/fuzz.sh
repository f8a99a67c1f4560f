#!/usr/bin/env bash
# tools/fuzz.sh BUILD SECONDS: builds every fuzz target of a configured build folder and runs it for
# so many seconds, from the committed corpus. What it finds stays in the build folder.
set -euo pipefail
build=$1
seconds=$2
source_dir=$(cd "$(dirname "$0")/.." && pwd)

mapfile -t names < <(cmake --build "$build" --target help | sed -nE 's/^([a-z0-9_]+_fuzz): .*/\1/p')
if [[ ${#names[@]} -eq 0 ]]; then
  echo "fuzz.sh: no fuzz targets in $build" >&2
  exit 1
fi
cmake --build "$build" --parallel "$(nproc)" --target "${names[@]}"

for name in "${names[@]}"; do
  target=$(find "$build" -type f -name "$name" -perm -u+x | head -n 1)
  echo "== $name, $seconds s"
  work="$build/corpus/$name"
  mkdir -p "$work" "$build/crashes"
  corpus=()
  for folder in "$source_dir/tests/fuzz/corpus/$name" "$source_dir/tests/fuzz/corpus/${name%_fuzz}"; do
    [[ -d $folder ]] && corpus+=("$folder")
  done
  if ! "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="$build/crashes/$name-" "$work" "${corpus[@]}" >"$work.log" 2>&1; then
    tail -n 60 "$work.log" >&2
    echo "fuzz.sh: $name failed; its input is in $build/crashes" >&2
    exit 1
  fi
  tail -n 1 "$work.log"
done
