#!/bin/bash
# Backs up every database. Only servers that answer are asked: upstream's program fails because of one
# that does not, although the others gave all there is, and the backup would be taken again and again.
# Environment: SERVERS (host:port, with spaces between). Arguments: the program's own.
set -eu
answering=
for server in $SERVERS; do
    if timeout 5 bash -c ": >/dev/tcp/${server%:*}/${server##*:}" 2>/dev/null; then
        answering=${answering:+$answering,}$server
    else
        echo "$server does not answer: the others are asked" >&2
    fi
done
[ -n "$answering" ] || exit 1
exec neo4j-admin database backup '*' --from="$answering" "$@"
