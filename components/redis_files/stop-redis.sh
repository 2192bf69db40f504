#!/bin/sh
# Before a data server stops: if it is master, hand over to a replica.
#
# It goes on serving until some Sentinel can hand over. From then on writes wait until the server has
# stopped, so that none is acknowledged by a master that is about to be replaced. Once the Sentinels
# name another, the server may stop; if they do not in time, it stops all the same, and they will
# fail over by themselves.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

# A Sentinel that distrusts its clock comes back after 30 s, one that is moved to another node sooner.
patience_seconds=40
# The same may befall the one that began.
handover_seconds=35
# Begun anew at each look, which takes up to 18 s with three Sentinels of which none answers.
pause_milliseconds=20000
# A replica tells each second how far it is.
catch_up_seconds=3

is_master() {
    [ "$(role)" = master ]
}

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

# Fields and their values take turns, a line each.
fields='NR % 2 { key = $0; next } { field[key] = $0 }'

# A Sentinel that could not run for two seconds distrusts its clock (TILT), and does nothing for 30 s:
# it says that it begins, and goes no further.
can_act() {
    ask "$1" info sentinel | grep -q '^sentinel_tilt:0'
}

# Whether it finds a replica in touch with its master.
knows_a_replica() {
    ask "$1" sentinel replicas "$REDIS_MASTER_NAME" | awk "$fields"'
        key == "flags" { sound = $0 == "slave" }
        key == "master-link-status" && sound && $0 == "ok" { found = 1 }
        END { exit !found }'
}

can_any_hand_over() {
    for sentinel in $REDIS_SENTINELS; do
        if can_act "$sentinel" && knows_a_replica "$sentinel"; then return; fi
    done
    return 1
}

await_who_can_hand_over() {
    deadline=$(($(date +%s) + patience_seconds))
    while ! can_any_hand_over; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            log "no Sentinel can hand over"
            return 1
        fi
        sleep 1
    done
}

in_charge=

# Asks one Sentinel after the other until one begins.
fail_over() {
    for sentinel in $REDIS_SENTINELS; do
        can_act "$sentinel" || continue
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
    [ -n "$in_charge" ] && can_act "$in_charge" && ask "$in_charge" sentinel master "$REDIS_MASTER_NAME" |
        awk -v self="$self" "$fields"'
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

is_master || exit 0
able=true
await_who_can_hand_over || able=false
# Else it was replaced meanwhile.
is_master || exit 0
hold_writes
let_the_others_catch_up
"$able" || exit 0
fail_over || true
deadline=$(($(date +%s) + handover_seconds))
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
