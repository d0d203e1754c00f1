# Shared by the scripts of this folder; source it. Not a program.
set -euo pipefail
export LC_ALL=C.UTF-8
# Several programs share the cores here: threads that wait for work sleep instead of spinning.
export OMP_WAIT_POLICY=passive
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${CONCORDAT_CACHE:-${HOME:?set HOME or CONCORDAT_CACHE}/.cache/concordat}
started=$SECONDS

# Says what is being done, with the seconds since the script began.
say() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command with its output kept in a log; on failure shows the log's end.
quietly() {
  local log=$1; shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "failed: $* (whole output: $log)"
  fi
}
