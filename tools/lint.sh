#!/usr/bin/env bash
# tools/lint.sh BUILD: clang-tidy (checks in .clang-tidy) over the host sources of a configured
# build folder.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files 'kernels/*.cc' 'runtime/*.cc' 'models/*.cc' 'speculative/*.cc' 'apps/*.cc')
printf '%s\0' "${files[@]}" | xargs -0 -n 4 -P "$(nproc)" clang-tidy --quiet -p "$1"
