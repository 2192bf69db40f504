#!/bin/sh
# Starts a data server once it is certain who is master.
#
# A server becomes master only if a majority of all Sentinels names it, so one that is cut off,
# ordinal 0 included, waits instead of becoming a second master. On the very first start the
# Sentinels name ordinal 0 (see start-sentinel.sh).
set -eu
umask 077
: > "$REDIS_RUN/deciding"
sh "$REDIS_CONFIG/look-up.sh"
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

has_data() {
    [ -e "$REDIS_DATA/appendonlydir" ] || [ -e "$REDIS_DATA/dump.rdb" ]
}

# Whether any Sentinel has ever seen a replica, that is: whether data was written before.
replicas_are_known() {
    for sentinel in $REDIS_SENTINELS; do
        ask "$sentinel" sentinel master "$REDIS_MASTER_NAME"
    done | awk '
        last == "num-slaves" && $0 > 0 { found = 1 }
        { last = $0 }
        END { exit !found }'
}

# Sets `master`; fails as long as no choice is safe.
# shellcheck disable=SC2086 # the list is split into addresses on purpose
decide() {
    master=$(named_by_most_sentinels)
    if [ -z "$master" ]; then
        # Follow a master that most data servers agree on. Fewer would not do: following a master
        # that was cut off would give it the replica it needs to take writes again.
        master=$(votes named_by_server $REDIS_SERVERS | elect "$(majority $REDIS_SERVERS)")
        [ -n "$master" ] && [ "$master" != "$self" ] && return
        log "waiting: no majority of the Sentinels or of the data servers names a master"
        return 1
    fi
    [ "$master" != "$self" ] && return
    # With its volume lost, a master would come back empty and its replicas would copy that.
    if ! has_data && replicas_are_known; then
        log "waiting: the volume is empty, so the Sentinels should fail over to a replica" \
            "(if no replica is left: SENTINEL RESET $REDIS_MASTER_NAME on each Sentinel)"
        return 1
    fi
}

configure() {
    cat <<CONF
include $REDIS_CONFIG/redis.conf
port $REDIS_PORT
dir $REDIS_DATA
replica-announce-ip $REDIS_HOST
replica-announce-port $REDIS_PORT
requirepass $(cat "$REDIS_SECRETS/password")
masterauth $(cat "$REDIS_SECRETS/password")
user client on >$(cat "$REDIS_SECRETS/client-password") ~* &* +@all -@admin -@dangerous +info +role
CONF
    if [ "$master" != "$self" ]; then
        echo "replicaof ${master%:*} ${master##*:}"
    fi
}

# Makes the fetched backup what the append-only file begins with; a server that has one does not
# look at any other RDB file. The folder gets its name last: a crash before that begins anew.
recover() {
    base="$REDIS_DATA/recovering/appendonly.aof.1.base.rdb"
    redis-check-rdb "$REDIS_DATA/recovery.rdb" >&2
    rm -rf "$REDIS_DATA/recovering"
    mkdir "$REDIS_DATA/recovering"
    ln "$REDIS_DATA/recovery.rdb" "$base"
    echo "file ${base##*/} seq 1 type b" > "$REDIS_DATA/recovering/appendonly.aof.manifest"
    sync
    mv "$REDIS_DATA/recovering" "$REDIS_DATA/appendonlydir"
}

until decide; do sleep 1; done
log "the master is $master"
if [ -n "${REDIS_RECOVERY:-}" ] && [ "$master" = "$self" ] && ! has_data; then
    log "begins with $REDIS_RECOVERY"
    recover
fi
rm -f "$REDIS_DATA/recovery.rdb"
configure > "$REDIS_RUN/redis.conf"
rm "$deciding"
exec redis-server "$REDIS_RUN/redis.conf"
