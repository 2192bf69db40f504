#!/bin/sh
# Before a data server stops: if it is master, hand over to a replica.
#
# It goes on serving until some Sentinel can hand over. Then writes wait, so that none is acknowledged
# by a master that is about to be replaced; they go on if no Sentinel begins after all. Once one has
# begun they wait until the server has stopped. Once the Sentinels name another, the server may stop;
# if they do not in time, it stops all the same, and they will fail over by themselves. How long all
# of this may take is reckoned in components/redis.py.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

# A Sentinel that distrusts its clock comes back after 30 s, one that is moved to another node sooner.
patience_seconds=40
# All may come to distrust theirs just now: what makes a server stop keeps its machine busy.
idle_seconds=3
# A Sentinel hears every ten seconds how far each replica is.
news_seconds=15
# The one that began may come to distrust its clock too.
handover_seconds=35
# Outlasts the Pod: however this script ends, the server is stopped after it.
pause_milliseconds=600000
hold_seconds=10
# A replica tells each second how far it is.
catch_up_seconds=3

# No answer is no news: a server that is busy may well be master.
is_replica() {
    [ "$(role)" = slave ]
}

hold_writes() {
    deadline=$(($(date +%s) + hold_seconds))
    until [ "$(ask "$here" client pause "$pause_milliseconds" write)" = OK ]; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            log "this server does not answer"
            return 1
        fi
    done
}

let_writes_go_on() {
    until [ "$(ask "$here" client unpause)" = OK ] || [ "$(date +%s)" -ge "$patient_until" ]; do
        sleep 0.1
    done
}

# Sentinels choose by what they heard of the replicas up to ten seconds ago: any of them may be next,
# one that lost its link within the last half a minute too. Unless all others have everything, sets
# `needed`: what a Sentinel must know some replica to have, which it then prefers.
let_the_others_catch_up() {
    written='' needed=0
    deadline=$(($(date +%s) + catch_up_seconds))
    until have_all_others; do
        if [ "$(date +%s)" -ge "$deadline" ]; then
            log "a replica is away, or lacks what was written last"
            # Without an answer there is no telling: nobody has so much.
            needed=${written:-999999999999999}
            return
        fi
        sleep 0.1
    done
}

# shellcheck disable=SC2086 # the list is split into addresses on purpose
have_all_others() {
    if [ -z "$written" ]; then
        written=$(ask "$here" info replication | sed -n 's/^master_repl_offset://p')
    fi
    set -- $REDIS_SERVERS
    ask "$here" info replication | awk -v written="$written" -v others="$(($# - 1))" '
        /^slave[0-9]+:.*state=online/ {
            sub(/.*offset=/, "")
            sub(/,.*/, "")
            if ($0 + 0 >= written + 0) have++
        }
        END { exit !(written != "" && have >= others) }'
}

# Fields and their values take turns, a line each.
fields='NR % 2 { key = $0; next } { field[key] = $0 }'

# A Sentinel that could not run for two seconds distrusts its clock (TILT), and does nothing for 30 s:
# it says that it begins, and goes no further.
can_act() {
    ask "$1" info sentinel | grep -q '^sentinel_tilt:0'
}

# Whether it can act, and takes this server for the master. One that has another would replace that.
can_act_for_us() {
    ask "$1" info sentinel | awk -v name=":name=$REDIS_MASTER_NAME," -v address=",address=$self," '
        /^sentinel_tilt:0/ { trusts = 1 }
        index($0, name) && index($0, address) { ours = 1 }
        END { exit !(trusts && ours) }'
}

# Whether it finds a replica in touch with its master that has at least so much.
knows_a_replica() {
    ask "$1" sentinel replicas "$REDIS_MASTER_NAME" | awk -v needed="$2" "$fields"'
        key == "flags" { sound = $0 == "slave" }
        key == "master-link-status" { linked = $0 == "ok" }
        key == "slave-repl-offset" && sound && linked && $0 + 0 >= needed + 0 { found = 1 }
        END { exit !found }'
}

can_any_hand_over() {
    for sentinel in $REDIS_SENTINELS; do
        if can_act_for_us "$sentinel" && knows_a_replica "$sentinel" 0; then return; fi
    done
    return 1
}

in_charge=

# Asks one Sentinel after the other until one begins, as far as can be told.
fail_over() {
    for sentinel in $REDIS_SENTINELS; do
        can_act_for_us "$sentinel" || continue
        knows_a_replica "$sentinel" "$needed" || continue
        reply=$(ask "$sentinel" sentinel failover "$REDIS_MASTER_NAME")
        # One that gave no answer may have begun: the writes may not go on then.
        case $reply in
            OK | INPROG* | '')
                in_charge=$sentinel
                log "$sentinel fails over: ${reply:-no answer}"
                return
                ;;
            *) log "$sentinel does not fail over: $reply" ;;
        esac
    done
    return 1
}

# Writes wait meanwhile: for long only where some Sentinel needs no more than news of a replica.
begin() {
    hold_writes || exit 0
    let_the_others_catch_up
    begun_by=$(($(date +%s) + news_seconds))
    idle_by=$(($(date +%s) + idle_seconds))
    until fail_over; do
        ! another_is_master || return 0
        now=$(date +%s)
        if can_any_hand_over; then idle_by=$((now + idle_seconds)); fi
        if [ "$now" -ge "$idle_by" ] || [ "$now" -ge "$begun_by" ]; then
            log "no Sentinel begins"
            return 1
        fi
        sleep 0.5
    done
}

serve_until_one_begins() {
    patient_until=$(($(date +%s) + patience_seconds))
    while [ "$(date +%s)" -lt "$patient_until" ]; do
        if can_any_hand_over; then
            # It may have been replaced meanwhile.
            ! is_replica || exit 0
            if begin; then return; fi
            let_writes_go_on
        fi
        ! another_is_master || exit 0
        sleep 1
    done
    log "no Sentinel can hand over"
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

# What a preStop hook writes is shown nowhere: the log of the container it belongs to has it.
if [ "$(cat /proc/1/comm)" = redis-server ] && (: >>/proc/1/fd/2) 2>/dev/null; then
    exec 2>>/proc/1/fd/2
fi

# A server that has not started yet has nothing to hand over.
if [ -e "$deciding" ] || is_replica; then exit 0; fi
log "stops as master"
if ! serve_until_one_begins; then
    hold_writes || exit 0
    let_the_others_catch_up
    exit 0
fi
deadline=$(($(date +%s) + handover_seconds))
while ! another_is_master; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        log "no other master was elected in time"
        exit 0
    fi
    goes_on || fail_over || true
    sleep 0.5
done
log "the master is $master"
have_the_others_follow
