#!/bin/sh
# Measures the engine on a machine with a GPU that may have no network.
#
#   deploy/gpu-bench.sh collect       where there is a network: fetch wheels into var/gpu-wheels
#   deploy/gpu-bench.sh run [OPTION]  on the GPU machine: unpack them beside its torch, and measure
#
# The GPU machine needs Python 3.12 (GPU_PYTHON=3.11 when collecting for another), torch 2.11 or newer
# with its triton, and numpy; none of them is touched. The options are those of
# `python -m inference gpu-bench`.
set -eu
cd "$(dirname "$0")/.."
wheels=var/gpu-wheels
packages=var/gpu-packages
python=${PYTHON:-python3}

# What diffusers imports, and what it is compared with; torch and numpy are the machine's own.
needed="accelerate diffusers huggingface-hub peft regex safetensors tokenizers transformers
  pillow pyyaml packaging tqdm filelock fsspec psutil requests urllib3 charset-normalizer idna certifi
  httpx2 httpcore2 anyio h11 truststore typing-extensions"
extra="torchao cache-dit"

collect() {
  mkdir -p "$wheels"
  pins=$(for name in $needed; do
    sed -n "s/^\($name==[^ ;]*\).*/\1/p" requirements.lock | grep . || echo "$name"
  done)
  # shellcheck disable=SC2086 # the names are words
  "$python" -m pip download -q --no-deps --only-binary=:all: -d "$wheels" \
    --python-version "${GPU_PYTHON:-3.12}" --platform manylinux_2_28_x86_64 \
    --platform manylinux2014_x86_64 $pins $extra
  du -sh "$wheels"
}

run() {
  if [ ! -d "$packages" ]; then
    "$python" -m pip install -q --no-deps --no-index --target "$packages.part" "$wheels"/*.whl
    mv "$packages.part" "$packages"
  fi
  # The machine's own packages come after ours, but torch is only there.
  PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m inference gpu-bench \
    --out "${OUT:-var}/gpu-bench.json" "$@"
}

case ${1:-} in
  collect) collect ;;
  run) shift && run "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
