#!/bin/sh
# Fills a folder with what the scripts take by --packages, all of it from PyPI through pip:
#   setup.sh DIR [--conv] [--llama]
# mamba_ssm's Python sources (nothing is compiled), einops and gguf.
# --conv also compiles causal_conv1d, which mamba_ssm decodes faster with: minutes.
# --llama also compiles llama.cpp's llama-bench, without flash attention, which no Mamba has.
# ARCH (90) is the GPU architecture, JOBS how many compilers run at once.
# `python3`, or $PYTHON, must have torch, setuptools, wheel, packaging and ninja: the set-up of
# mamba_ssm and causal_conv1d imports them even if only their sources are wanted.
set -eu

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit "$1"; }

PYTHON=${PYTHON:-python3} ARCH=${ARCH:-90} JOBS=${JOBS:-$(nproc)}
dir='' conv=false llama=false
for argument; do
  case $argument in
    --conv) conv=true ;;
    --llama) llama=true ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) dir=$argument ;;
  esac
done
[ -n "$dir" ] || usage 2 >&2

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

"$PYTHON" -m pip install --quiet --no-deps --upgrade --target "$dir" einops==0.8.2 gguf==0.19.0
MAMBA_SKIP_CUDA_BUILD=TRUE "$PYTHON" -m pip download --quiet --no-deps --no-build-isolation \
  --no-binary mamba-ssm --dest "$work" mamba-ssm==2.3.2.post1
tar -xzf "$work/mamba_ssm-2.3.2.post1.tar.gz" -C "$work"
rm -rf "$dir/mamba_ssm"
mv "$work/mamba_ssm-2.3.2.post1/mamba_ssm" "$dir/"

if $conv; then
  CAUSAL_CONV1D_FORCE_BUILD=TRUE MAX_JOBS=$JOBS "$PYTHON" -m pip install --no-deps --upgrade \
    --no-build-isolation --no-binary causal-conv1d --target "$dir" causal-conv1d==1.7.0
fi

if $llama; then
  # Its own build system, scikit-build, is not needed: only the llama.cpp in it is compiled.
  "$PYTHON" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" \
    llama-cpp-python==0.3.36
  tar -xzf "$work/llama_cpp_python-0.3.36.tar.gz" -C "$work"
  cmake -S "$work/llama_cpp_python-0.3.36/vendor/llama.cpp" -B "$work/build" \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_CUDA_ARCHITECTURES="$ARCH-real" \
    -DGGML_CUDA=ON -DGGML_CUDA_FA=OFF -DGGML_CUDA_NCCL=OFF \
    -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_OPENMP=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
    -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_COMMIT=0c1e570
  cmake --build "$work/build" --target llama-bench --parallel "$JOBS"
  cp "$work/build/bin/llama-bench" "$dir/"
fi
echo "ready: --packages $dir"
