# Read by up.sh and down.sh: where the cluster that outlives its shell is kept, and whether it runs.
# shellcheck shell=bash
state=${1:-${TENANTRY_CACHE:-${HOME:?set HOME or TENANTRY_CACHE}/.cache/tenantry}/cluster}
pid_file=$state/pid

# The process id of the cluster of this state directory; fails when none runs. A process id alone could by
# now be somebody else's: the command line must name the directory.
running_pid() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) && [ -n "$pid" ] || return 1
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "--dir=$state/data" || return 1
    printf '%s\n' "$pid"
}
