#!/usr/bin/env bash
# tools/gpu/pack.sh [BUILD] [FILE.tar.gz]: what tools/gpu/run.sh needs of a build folder with the
# CUDA backend (build/cuda), for a GPU machine that cannot build: stripped binaries, and the shared
# libraries that such a machine may lack. There: tools/gpu/run.sh FILE.tar.gz, from a checkout.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/cuda}
file=${2:-$build/gpu.tar.gz}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" "$folder/lib"
mapfile -t binaries < <(find "$build" -type f -perm -u+x \( -name sidewinder -o -name '*_cuda_test' \
  -o -name '*_cuda_bench' -o -name golden_test -o -name engine_test -o -name lossless_test \
  -o -name prefill_test -o -name read_bandwidth_test \) | sort)
[[ ${#binaries[@]} -gt 0 ]] || { echo "pack.sh: nothing to pack in $build" >&2; exit 1; }
for binary in "${binaries[@]}"; do
  strip -o "$folder/bin/${binary##*/}" "$binary"
done
# Those of the C and C++ runtimes stay out: a machine has its own, that fit each other.
ldd "${binaries[@]}" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)\.so' |
  while read -r library; do cp -L "$library" "$folder/lib/"; done
tar -czf "$file" -C "$folder" .
echo "$file: ${#binaries[@]} binaries, $(du -h "$file" | cut -f1)"
