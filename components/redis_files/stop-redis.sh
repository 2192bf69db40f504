#!/bin/sh
# Before a data server stops: if it is master, hand over to a replica.
#
# Writes wait from the moment the handover begins, so that none is acknowledged by a master that
# is about to be replaced. Once the Sentinels name another master, the server may stop; if they
# do not in time, it stops all the same, and they will fail over by themselves.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

pause_milliseconds=20000
attempts=30

# Asks one Sentinel after the other until one begins.
fail_over() {
    for sentinel in $REDIS_SENTINELS; do
        reply=$(ask "$sentinel" sentinel failover "$REDIS_MASTER_NAME")
        case $reply in
            OK | INPROG*) return ;;
            *) log "$sentinel does not fail over: ${reply:-no answer}" ;;
        esac
    done
    return 1
}

another_is_master() {
    master=$(named_by_most_sentinels)
    [ -n "$master" ] && [ "$master" != "$self" ]
}

[ "$(role)" = master ] || exit 0
ask "$here" client pause "$pause_milliseconds" write >&2
if fail_over; then
    while [ "$attempts" -gt 0 ]; do
        ! another_is_master || exit 0
        attempts=$((attempts - 1))
        sleep 0.5
    done
fi
log "no other master was elected in time"
ask "$here" client unpause >&2
