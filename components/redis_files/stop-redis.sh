#!/bin/sh
# Before a data server stops: if it is master, hand over to a replica.
#
# Writes wait from the moment the handover begins until the server has stopped, so that none is
# acknowledged by a master that is about to be replaced. Once the Sentinels name another, the server
# may stop; if they do not in time, it stops all the same, and they will fail over by themselves.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

# Begun anew at each look, which takes up to 18 s with three Sentinels of which none answers.
pause_milliseconds=20000
seconds=15
# A replica tells each second how far it is.
catch_up_seconds=3

hold_writes() {
    ask "$here" client pause "$pause_milliseconds" write >&2
}

# Sentinels choose by what they heard of the replicas up to ten seconds ago: any of them may be next.
let_the_others_catch_up() {
    written=$(ask "$here" info replication | sed -n 's/^master_repl_offset://p')
    deadline=$(($(date +%s) + catch_up_seconds))
    while is_any_behind "$written"; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            log "a replica lacks what was written last"
            return
        fi
        sleep 0.1
    done
}

is_any_behind() {
    ask "$here" info replication | awk -v written="$1" '
        /^slave[0-9]+:.*state=online/ {
            sub(/.*offset=/, "")
            sub(/,.*/, "")
            if ($0 + 0 < written + 0) behind = 1
        }
        END { exit !behind }'
}

# A Sentinel that could not run for two seconds distrusts its clock, and does nothing for 30 s: it
# says that it begins, and goes no further.
is_tilted() {
    ask "$1" info sentinel | grep -q '^sentinel_tilt:1'
}

# Asks one Sentinel after the other until one begins.
fail_over() {
    for sentinel in $REDIS_SENTINELS; do
        ! is_tilted "$sentinel" || continue
        reply=$(ask "$sentinel" sentinel failover "$REDIS_MASTER_NAME")
        case $reply in
            OK | INPROG*)
                in_charge=$sentinel
                return
                ;;
            *) log "$sentinel does not fail over: ${reply:-no answer}" ;;
        esac
    done
    return 1
}

# Whether the Sentinel that began is still at it, or done: one that is stopped itself, as where a
# node is drained, forgets.
goes_on() {
    ! is_tilted "$in_charge" && ask "$in_charge" sentinel master "$REDIS_MASTER_NAME" | awk -v self="$self" '
        NR % 2 { key = $0; next }
        { field[key] = $0 }
        END {
            done = field["ip"] ":" field["port"] != self
            exit !(NR && (done || field["flags"] ~ /failover_in_progress/))
        }'
}

another_is_master() {
    master=$(named_by_most_sentinels)
    [ -n "$master" ] && [ "$master" != "$self" ]
}

# A Sentinel does this too, one server after the other, unless it stands still just then. Until one
# follows the new master, that takes no writes.
have_the_others_follow() {
    for server in $REDIS_SERVERS; do
        [ "$server" = "$self" ] || [ "$server" = "$master" ] ||
            [ "$(named_by_server "$server")" = "$master" ] ||
            ask "$server" replicaof "${master%:*}" "${master##*:}" >&2
    done
}

[ "$(role)" = master ] || exit 0
hold_writes
let_the_others_catch_up
fail_over || exit 0
deadline=$(($(date +%s) + seconds))
while ! another_is_master; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        log "no other master was elected in time"
        exit 0
    fi
    hold_writes
    goes_on || fail_over || true
    sleep 0.5
done
have_the_others_follow
