# shellcheck shell=sh
# What the other scripts share: asking servers and Sentinels, and counting what they answer.
#
# The environment says where everything is, so that the scripts run in a Pod and anywhere else:
#   REDIS_HOST, REDIS_PORT  the name and the port of this server or Sentinel
#   REDIS_SERVERS           every data server as name:port, separated by spaces, ordinal 0 first
#   REDIS_SENTINELS         every Sentinel, likewise
#   REDIS_MASTER_NAME       what the Sentinels call this set of servers
#   REDIS_QUORUM            Sentinels that must agree that the master is down
#   REDIS_CONFIG            folder of these scripts and of the configuration, read only
#   REDIS_SECRETS           folder of the files `password` and `client-password`, read only
#   REDIS_DATA, REDIS_RUN   writable folders: one that lasts, one that need not
#   REDIS_RECOVERY          the backup that a new cache begins with; not set: with nothing
# A backup has no server of its own, and so neither REDIS_HOST nor REDIS_PORT.
# Once look-up.sh has run, addresses stand where names were.
if [ -e "$REDIS_RUN/addresses" ]; then
    # shellcheck source=/dev/null
    . "$REDIS_RUN/addresses"
fi

# shellcheck disable=SC2034 # read by the scripts that include this file
self="${REDIS_HOST:-}:${REDIS_PORT:-}"
# The probes do not depend on DNS.
here="127.0.0.1:${REDIS_PORT:-}"
# Present while a start script still asks who is master.
deciding="$REDIS_RUN/deciding"

log() {
    echo "$(date -u +%FT%TZ) $*" >&2
}

# ask HOST:PORT COMMAND...: the reply, or nothing when none comes within two seconds.
ask() {
    address=$1
    shift
    REDISCLI_AUTH=$(cat "$REDIS_SECRETS/password") \
        timeout 2 redis-cli -h "${address%:*}" -p "${address##*:}" "$@" 2>/dev/null | tr -d '\r'
}

# The master that one Sentinel names, as host:port.
named_by_sentinel() {
    ask "$1" sentinel get-master-addr-by-name "$REDIS_MASTER_NAME" | paste -s -d : - |
        grep -E '^[^: ]+:[0-9]+$'
}

# The master that one data server follows: itself, or the one it is linked to at this moment.
named_by_server() {
    ask "$1" info replication | awk -F : -v self="$1" '
        { field[$1] = $2 }
        END {
            if (field["role"] == "master") print self
            else if (field["master_link_status"] == "up")
                print field["master_host"] ":" field["master_port"]
        }'
}

# votes ASK ADDRESS...: how many name each master, as "count host:port", most votes first. ASK is
# one of the functions above; all addresses are asked at once.
votes() {
    vote=$1
    shift
    {
        for address in "$@"; do "$vote" "$address" & done
        wait
    } | sort | uniq -c | sort -rn
}

# Reads votes; prints the one master that has the most, if they are $1 or more. A tie elects nobody.
elect() {
    awk -v needed="$1" '
        NR == 1 { votes = $1; master = $2 }
        NR == 2 && $1 == votes { master = "" }
        END { if (votes >= needed && master != "") print master }'
}

# majority ADDRESS...: more than half of them.
majority() {
    echo $(($# / 2 + 1))
}

# shellcheck disable=SC2086 # the lists are split into addresses on purpose
named_by_most_sentinels() {
    votes named_by_sentinel $REDIS_SENTINELS | elect "$(majority $REDIS_SENTINELS)"
}

# The role of the server in this Pod: master, slave or nothing.
role() {
    ask "$here" info replication | awk -F : '$1 == "role" { print $2 }'
}
