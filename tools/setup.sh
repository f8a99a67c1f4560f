#!/usr/bin/env bash
# Installs what a build needs, from the distribution's own packages (Debian 12, Ubuntu 24.04).
# Takes milliseconds and no network when everything is there.
#
#   tools/setup.sh            what `make demo` and `make test` need
#   tools/setup.sh bench      also what the micro-benchmarks need (presets cuda and bench)
#   tools/setup.sh dev        also clang, clang-format and clang-tidy (fuzz targets, format, lint)
set -euo pipefail

# A tool counts as there however it came; "command:package".
tools=(g++:g++ make:make cmake:cmake ninja:ninja-build pkg-config:pkg-config python3:python3)
packages=(
  libabsl-dev libhwy-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  nlohmann-json3-dev libcli11-dev libgtest-dev libgmock-dev
)
case "${1:-}" in
  "") ;;
  bench) packages+=(libbenchmark-dev) ;;
  dev)
    tools+=(clang++:clang clang-format:clang-format clang-tidy:clang-tidy ccache:ccache)
    packages+=(libbenchmark-dev)
    ;;
  *)
    echo "setup.sh: unknown argument '$1'; legal: bench, dev" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: not Debian or Ubuntu; install what corresponds to: ${packages[*]}" >&2
  exit 0
fi

missing=()
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ?i* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: neither root nor sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup.sh: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes \
  --no-install-recommends "${missing[@]}" </dev/null
