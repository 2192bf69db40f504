#!/bin/sh
# Starts one server. The configuration is read-only and shared by all; what differs is added here.
# Environment: NEO4J_FILES (configuration and scripts), NEO4J_SECRETS (the file `password`),
# NEO4J_DATA (the volume), NEO4J_RUN (writable), ADDRESS (of this server), DUMP_SECONDS (Community:
# between dumps).
set -eu
conf=$NEO4J_RUN/conf
mkdir -p "$conf" "$NEO4J_RUN/run"
rm -f "$conf/neo4j.conf" # of the container before this one
{
    cat "$NEO4J_FILES/neo4j.conf"
    echo "server.default_advertised_address=$ADDRESS"
} >"$conf/neo4j.conf"
export NEO4J_CONF="$conf"

# Only the first start of a volume sets it; it never leaves the container.
[ -e "$NEO4J_DATA/dbms/auth.ini" ] ||
    neo4j-admin dbms set-initial-password "$(cat "$NEO4J_SECRETS/password")"

[ -n "${DUMP_SECONDS:-}" ] || exec neo4j console

# Community has no backup of a running database: it stops now and then, and is dumped before it
# starts again. A dump that fails is told, and keeps nobody from working; the one before it stays.
new=$NEO4J_DATA/dumps/new
mkdir -p "$new"
dump() {
    neo4j-admin database dump "$1" --to-path="$new" --overwrite-destination=true &
    dumping=$!
    wait "$dumping" && mv "$new/$1.dump" "$NEO4J_DATA/dumps/"
}
# A container's first process is not ended by a signal that it does not catch.
dumping=
trap 'kill $dumping; exit 143' TERM
for database in neo4j system; do
    [ ! -d "$NEO4J_DATA/databases/$database" ] || dump "$database" ||
        echo "no dump of $database was taken" >&2
done
trap - TERM
exec timeout --signal=TERM "$DUMP_SECONDS" neo4j console
