#!/bin/sh
# Refuses a change of proto/ that breaks callers of what has landed on main.
set -eu
cd "$(dirname "$0")/.."
base=$(git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main || true)
if [ -z "$base" ] || ! git cat-file -e "$base:proto/buf.yaml" 2>/dev/null; then
  echo "buf breaking: no contract has landed yet, so there is nothing to compare with."
  exit 0
fi
landed=$(mktemp -d)
trap 'rm -rf "$landed"' EXIT
git archive "$base" proto | tar -x -C "$landed"
cd proto && ../.venv/bin/buf breaking --against "$landed/proto"
