#!/bin/sh
# Looks up the addresses of this server and of all others, and leaves them in $REDIS_RUN/addresses,
# from where lib.sh takes them in the place of names.
#
# Each name is that of a Service of one server alone, so its address stays when the Pod is replaced.
# Looked up once, before the server starts: a Sentinel that knows names asks for them all the time,
# in the one thread that it has. A node that is lost takes a name server with it; after two seconds
# without an answer the Sentinel finds that time has jumped, and acts on nothing for half a minute.
set -eu

# NAME:PORT as ADDRESS:PORT.
address() {
    found=$(getent ahostsv4 "${1%:*}" | awk 'NR == 1 { print $1 }')
    [ -n "$found" ] && echo "$found:${1##*:}"
}

addresses() {
    known=""
    for server in "$@"; do
        known="$known $(address "$server")" || return 1
    done
    echo "${known# }"
}

# shellcheck disable=SC2086 # the lists are split into addresses on purpose
until
    own=$(address "$REDIS_HOST:$REDIS_PORT") &&
        servers=$(addresses $REDIS_SERVERS) &&
        sentinels=$(addresses $REDIS_SENTINELS)
do
    echo "$(date -u +%FT%TZ) waiting: the name of a server is not known" >&2
    sleep 1
done
cat > "$REDIS_RUN/addresses" <<END
REDIS_HOST='${own%:*}'
REDIS_SERVERS='$servers'
REDIS_SENTINELS='$sentinels'
END
