#!/bin/sh
# Starts a Sentinel with what it learned before, or with what the others know.
#
# sentinel.conf lies on a volume because Sentinel keeps its knowledge there. Each start takes over
# the knowledge only: settings and passwords are written anew, so that changes take effect, and
# servers or Sentinels that the stack no longer has are forgotten.
set -eu
umask 077
: > "$REDIS_RUN/deciding"
sh "$REDIS_CONFIG/look-up.sh"
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

state="$REDIS_DATA/sentinel.conf"
rounds_until_first_start=5

# The master of the last run, as host:port, if the stack still has it under that address.
remembered_master() {
    [ ! -e "$state" ] || awk -v known=" $REDIS_SERVERS " '
        $1 != "sentinel" || $2 != "monitor" { next }
        index(known, " " $4 ":" $5 " ") { print $4 ":" $5 }' "$state"
}

# Sets `master`; fails as long as it must be asked again.
#
# Only when nobody at all names a master, several times in a row, is this the very first start,
# and ordinal 0 is to be the master. A Sentinel that errs here, having lost its volume while it
# was cut off, is outvoted, and corrected by the others as soon as it hears them: their
# configuration epoch is higher.
# shellcheck disable=SC2086 # the lists are split into addresses on purpose
decide() {
    master=$(remembered_master)
    [ -z "$master" ] || return 0
    sentinels=$(votes named_by_sentinel $REDIS_SENTINELS)
    master=$(echo "$sentinels" | elect 1)
    [ -z "$master" ] || return 0
    servers=$(votes named_by_server $REDIS_SERVERS)
    master=$(echo "$servers" | elect 1)
    [ -z "$master" ] || return 0
    if [ -n "$sentinels$servers" ]; then
        log "waiting: the answers contradict each other"
        rounds_without_answer=0
        return 1
    fi
    rounds_without_answer=$((rounds_without_answer + 1))
    [ "$rounds_without_answer" -ge "$rounds_until_first_start" ] || return 1
    master=${REDIS_SERVERS%% *}
}

# Epochs, own identity, and the replicas and Sentinels that the stack still has.
knowledge() {
    [ ! -e "$state" ] || awk -v known=" $REDIS_SERVERS $REDIS_SENTINELS " '
        $1 != "sentinel" { next }
        $2 ~ /^(myid|current-epoch|config-epoch|leader-epoch)$/ { print }
        $2 ~ /^known-/ && index(known, " " $4 ":" $5 " ") { print }' "$state"
}

configure() {
    cat "$REDIS_CONFIG/sentinel.conf"
    cat <<CONF
port $REDIS_PORT
dir $REDIS_DATA
sentinel announce-ip $REDIS_HOST
sentinel announce-port $REDIS_PORT
requirepass $(cat "$REDIS_SECRETS/password")
sentinel sentinel-pass $(cat "$REDIS_SECRETS/password")
sentinel monitor $REDIS_MASTER_NAME ${master%:*} ${master##*:} $REDIS_QUORUM
sentinel auth-pass $REDIS_MASTER_NAME $(cat "$REDIS_SECRETS/password")
user client on >$(cat "$REDIS_SECRETS/client-password") &* -@all +@connection +@pubsub -@dangerous -publish +info +role +sentinel|get-master-addr-by-name +sentinel|master +sentinel|masters +sentinel|replicas +sentinel|slaves +sentinel|sentinels
CONF
    knowledge
}

rounds_without_answer=0
until decide; do sleep 1; done
log "the master is $master"
configure > "$state.new"
mv "$state.new" "$state"
rm "$deciding"
exec redis-sentinel "$state"
