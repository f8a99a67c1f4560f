#!/usr/bin/env bash
# Everything that takes a GPU, on a machine that has one: tests, sanitizers, benchmarks.
#
#   tools/gpu/run.sh [--tests] [--sanitize] [--bench] [--output DIR] [--timeout SECONDS] [BUILD]
#
# Without a part named, all three. BUILD is a build folder with the CUDA backend (build/cuda; built
# first if that is missing and nvcc is there), or what tools/gpu/pack.sh made of one. A failing step
# is reported and the rest goes on; the summary comes last. Logs go to DIR (BUILD/gpu).
# Exit status: 0; 1 if a step failed; 2 for wrong usage, or if nothing could be run.
#
#   JOBS              tests and sanitizer runs at a time (4)
#   SANITIZE_FILTER   a --gtest_filter for sanitizer runs (leaves out the large cases)
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
export SIDEWINDER_SOURCE_DIR=$PWD
jobs_at_a_time=${JOBS:-4}
sanitize_filter=${SANITIZE_FILTER:--*RealShapes*:*Long*:*FollowsTheVerifiers*:*EveryShape*:*Chain*}
limit=300

die() { echo "run.sh: $*" >&2; exit 2; }

parts=() build='' output=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --tests | --sanitize | --bench) parts+=("${1#--}") ;;
    --output | --timeout)
      [[ $# -ge 2 ]] || die "$1 needs a value"
      if [[ $1 == --output ]]; then output=$2; else limit=$2; fi
      shift
      ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    -*) die "unknown flag $1" ;;
    *) [[ -z $build ]] || die "one build folder, not $build and $1"; build=$1 ;;
  esac
  shift
done
[[ ${#parts[@]} -gt 0 ]] || parts=(tests sanitize bench)
wants() { [[ " ${parts[*]} " == *" $1 "* ]]; }

# --- what to run -----------------------------------------------------------------------------------

if [[ -z $build ]]; then
  build=build/cuda
  if [[ ! -x $build/apps/sidewinder ]]; then
    export PATH=$PATH:/usr/local/cuda/bin
    command -v nvcc >/dev/null || die "no $build, and no nvcc to build it"
    make --no-print-directory build PRESET=cuda || die "$build could not be built"
  fi
fi
if [[ -f $build ]]; then  # a packed one
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  tar -xzf "$build" -C "$unpacked" || die "$build cannot be unpacked"
  output=${output:-$build.gpu}
  build=$unpacked
fi
[[ -d $build ]] || die "$build is no folder"
build=$(cd "$build" && pwd)
output=${output:-$build/gpu}
mkdir -p "$output" || die "$output cannot be made"
output=$(cd "$output" && pwd)
if [[ -d $build/lib ]]; then  # libraries that came along
  export LD_LIBRARY_PATH=$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

binaries() { find "$build" -type f -perm -u+x -name "$1" | sort; }
sidewinder=$(binaries sidewinder | head -n 1)
[[ -n $sidewinder ]] || die "no sidewinder in $build"
"$sidewinder" inspect --device cuda --model synthetic:mamba-tiny | tee "$output/machine.txt" ||
  die "no usable GPU"

# --- steps -----------------------------------------------------------------------------------------

# Each leaves NUMBER.name, .log and .status (0, or why it failed) in `steps`.
steps=$(mktemp -d)
number=0

run_step() {  # FILE NAME COMMAND...
  local file=$1 name=$2 begin=$SECONDS status=0
  shift 2
  echo "$name" >"$file.name"
  timeout --kill-after=10 "$limit" "$@" >"$file.log" 2>&1 </dev/null || status=$?
  [[ $status -ne 124 && $status -ne 137 ]] || status="over $limit s"
  echo "$status" >"$file.status"
  local skipped=''
  if grep -q ': Skipped$' "$file.log"; then skipped=', with skips: see the log'; fi
  if [[ $status == 0 ]]; then echo "ok      $name, $((SECONDS - begin)) s$skipped"
  else echo "FAILED  $name ($status), $((SECONDS - begin)) s"; fi
}

step() {  # NAME COMMAND...: waits for it
  number=$((number + 1))
  run_step "$steps/$(printf %03d $number)" "$@"
}

queue() {  # NAME COMMAND...: beside others, until `wait`
  while [[ $(jobs -rp | wc -l) -ge $jobs_at_a_time ]]; do wait -n || true; done
  number=$((number + 1))
  run_step "$steps/$(printf %03d $number)" "$@" &
}

collect() {  # FILE: the logs of the steps so far that no other file has
  local log
  for log in "$steps"/*.log; do
    [[ -e $log ]] || continue
    { echo "=== $(<"${log%.log}.name") (status $(<"${log%.log}.status"))"; cat "$log"; } >>"$1"
    [[ $(<"${log%.log}.status") == 0 ]] || tail -n 40 "$log"
    mv "$log" "$log.done"
  done
}

run_tests() {  # VARIANT ENVIRONMENT...
  local variant=$1 binary
  shift
  while read -r binary; do
    queue "${binary##*/}$variant" env "$@" "$binary" --gtest_brief=1
  done < <(binaries '*_cuda_test')
  for name in golden_test engine_test prefill_test read_bandwidth_test lossless_test; do
    binary=$(binaries "$name" | head -n 1)
    [[ -n $binary ]] || { echo "no $name in $build"; continue; }
    queue "$name$variant" env SIDEWINDER_TEST_DEVICE=cuda "$@" "$binary" --gtest_brief=1
  done
  if command -v python3 >/dev/null; then
    queue "cli_test$variant" env "$@" python3 tests/apps/cli_test.py "$sidewinder" \
      "$SIDEWINDER_SOURCE_DIR/tests/goldens/models"
  fi
  wait
}

run_sanitizers() {
  local sanitizer tool binary
  sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
  if [[ -z $sanitizer ]]; then
    echo "no compute-sanitizer in PATH or /usr/local/cuda/bin: left out"
    return
  fi
  sanitized() {  # TOOL BINARY FILTER
    queue "$1 ${2##*/}" env SIDEWINDER_TEST_DEVICE=cuda SIDEWINDER_RECORD_ROUNDS=0 "$sanitizer" --tool "$1" \
      --error-exitcode 9 "$2" --gtest_brief=1 --gtest_filter="$3"
  }
  for tool in memcheck racecheck synccheck initcheck; do
    while read -r binary; do
      sanitized "$tool" "$binary" "$sanitize_filter"
    done < <(binaries '*_cuda_test')
  done
  # A whole model, and the loop that a GPU runs by itself.
  binary=$(binaries golden_test | head -n 1)
  for tool in memcheck racecheck initcheck; do
    [[ -z $binary ]] || sanitized $tool "$binary" '*mamba1_tied*:*mamba2_tied*'
  done
  binary=$(binaries engine_test | head -n 1)
  [[ -z $binary ]] || sanitized memcheck "$binary" '*RunDecodesUntilNothingIsLeft'
  wait
}

generation() {  # NAME FLAGS...: whole generations; keeps the figures as a line of JSON
  local name=$1 file
  shift
  step "bench $name" "$sidewinder" bench --device cuda --json --ignore-eos --prompt-tokens 16 "$@"
  file=$steps/$(printf %03d $number)
  [[ $(<"$file.status") == 0 ]] || return
  # The figures begin at the first brace; progress is written before it.
  { printf '{"name": "%s", "report": ' "$name"; sed -n '/^{/,$p' "$file.log" | tr -d '\n'; echo '}'; } \
    >>"$output/bench.jsonl"
}

run_benchmarks() {
  local binary
  rm -f "$output/bench.jsonl"
  local one=(--max-new-tokens 512 --limit 3 --repeat 3)
  local lots=(--synthetic-acceptance 0.8)
  local many=(--batch 32 --max-new-tokens 128 --repeat 3 --draft-tokens 4 "${lots[@]}"
    --model synthetic:mamba2-2.7b --draft synthetic:mamba2-130m)
  generation 'mamba-2.8b + mamba-130m' "${one[@]}" --model synthetic:mamba-2.8b \
    --draft synthetic:mamba-130m --draft-tokens 3,4,5 "${lots[@]}"
  generation 'mamba2-2.7b' "${one[@]}" --model synthetic:mamba2-2.7b
  generation 'mamba-130m' "${one[@]}" --model synthetic:mamba-130m
  # Proposals that cost next to nothing leave the verifier's passes.
  generation 'mamba-2.8b, 5 rows' "${one[@]}" --model synthetic:mamba-2.8b --draft ngram \
    --draft-tokens 4 "${lots[@]}"
  generation 'mamba2-2.7b + mamba2-130m, 32 at a time' "${many[@]}"
  generation 'mamba2-2.7b + mamba2-130m, 32 at a time, when-full' "${many[@]}" \
    --checkpoint-policy when-full
  while read -r binary; do
    step "${binary##*/}" "$binary" --benchmark_min_time=0.2
  done < <(binaries '*_cuda_bench')
}

if wants tests; then
  rm -f "$output/tests.log"
  run_tests ''
  run_tests ', compute capability 8.0' SIDEWINDER_FORCE_CC=80
  collect "$output/tests.log"
fi
if wants sanitize; then
  rm -f "$output/sanitizers.log"
  run_sanitizers
  collect "$output/sanitizers.log"
fi
if wants bench; then
  rm -f "$output/bench.log"
  run_benchmarks
  collect "$output/bench.log"
fi

# --- summary ---------------------------------------------------------------------------------------

failed=0
{
  echo
  grep -h '^machine' "$output/machine.txt"
  for file in "$steps"/*.status; do
    [[ -e $file ]] || continue
    status=$(<"$file")
    [[ $status != 0 ]] || continue
    failed=$((failed + 1))
    echo "FAILED  $(<"${file%.status}.name") ($status)"
  done
  echo "$((number - failed)) of $number steps passed (${parts[*]})"
  if wants bench && [[ -s $output/bench.jsonl ]]; then
    echo
    python3 tools/gpu/summarize.py "$output/bench.jsonl"
  fi
} | tee "$output/summary.txt"
failed=$(grep -c '^FAILED' "$output/summary.txt")
rm -rf "$steps"
echo "logs are in $output"
[[ $number -gt 0 ]] || exit 2
[[ $failed -eq 0 ]]
