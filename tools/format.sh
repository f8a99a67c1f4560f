#!/usr/bin/env bash
# Formats the C++ and CUDA sources with clang-format 14, or with --check fails on the first that
# would change. Other versions format differently, so they only ever format in place.
set -euo pipefail
cd "$(dirname "$0")/.."

formatter=$(command -v clang-format-14 || command -v clang-format || true)
if [[ -z $formatter ]]; then
  echo "format.sh: no clang-format here (tools/setup.sh dev installs it)" >&2
  exit 1
fi
mapfile -t files < <(git ls-files '*.h' '*.cc' '*.cu' '*.cuh')

if [[ ${1:-} != --check ]]; then
  "$formatter" -i "${files[@]}"
  exit 0
fi
if ! "$formatter" --version | grep -q 'version 14\.'; then
  echo "format.sh: $("$formatter" --version) is not version 14; not checked"
  exit 0
fi
"$formatter" --dry-run --Werror "${files[@]}"
echo "format.sh: ${#files[@]} files are formatted"
