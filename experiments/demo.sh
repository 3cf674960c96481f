#!/usr/bin/env bash
# The whole journey on the synthetic data set, as a newcomer would type it: search, full training, export.
# Usage: demo.sh FOLDER [NASPERC_COMMAND]
set -euo pipefail
folder=${1:-demo}
nasperc=${2:-nasperc}
mkdir -p "$folder"
cd "$folder"

step() { printf '\n$ nasperc %s\n' "$*"; "$nasperc" "$@"; }

step search --space fcos_decoder --workers 2
step fulltrain --arch top10.json --top 1
step export architecture

printf '\nEverything of this demo lies in %s\n' "$PWD"
