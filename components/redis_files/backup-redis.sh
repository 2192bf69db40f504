#!/bin/sh
# Puts the dataset of one replica into $REDIS_DATA/whole, as an RDB file that is named by its time.
#
# It is asked for as a replica would ask, so the server need not write it to its own volume; its
# checksum is verified here. Needs REDIS_SERVERS, REDIS_CONFIG, REDIS_SECRETS, REDIS_DATA, REDIS_RUN.
set -eu
umask 077
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

transfer_seconds=900

# take HOST:PORT: fails unless the file is whole.
take() {
    REDISCLI_AUTH=$(cat "$REDIS_SECRETS/password") timeout "$transfer_seconds" \
        redis-cli -h "${1%:*}" -p "${1##*:}" --rdb "$REDIS_DATA/partial" >&2 &&
        redis-check-rdb "$REDIS_DATA/partial" >&2
}

rm -rf "$REDIS_DATA/partial" "$REDIS_DATA/whole"
for server in $REDIS_SERVERS; do
    master=$(named_by_server "$server")
    if [ -z "$master" ] || [ "$master" = "$server" ]; then
        log "$server is no replica in sync"
        continue
    fi
    taken=$(date -u +%Y-%m-%dT%H%M%SZ)
    if take "$server"; then
        mkdir "$REDIS_DATA/whole"
        mv "$REDIS_DATA/partial" "$REDIS_DATA/whole/$taken.rdb"
        log "$taken.rdb holds the dataset of $server"
        exit 0
    fi
    log "$server gave no dataset that is whole"
done
exit 1
