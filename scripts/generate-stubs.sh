#!/bin/sh
# Generates the Python stubs from proto/ into the folder given. `make proto` gives the tree itself; a test gives an empty folder and compares.
set -eu
into=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
# Sources as words: their paths hold no spaces.
messages=$(cd proto && find adaptory -name '*.proto' | sort)
services=$(cd proto && find adaptory -name '*_service.proto' | sort)
# shellcheck disable=SC2086
.venv/bin/python -m grpc_tools.protoc -Iproto -Iproto/third_party --python_out="$into" --pyi_out="$into" $messages
# shellcheck disable=SC2086 # only services: a file of messages alone would give an empty stub
.venv/bin/python -m grpc_tools.protoc -Iproto -Iproto/third_party --grpc_python_out="$into" $services
