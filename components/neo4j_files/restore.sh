#!/bin/sh
# Makes a dump of a database as it was at a moment, from a chain of backups; no server takes part.
# Environment: BACKUP (the last of the chain), UNTIL (a time in UTC; empty: the end of the chain),
# DATABASE, TARGET (folder of the dump), NEO4J_FILES (the servers' configuration), NEO4J_DATA (a
# volume with room for all of it), NEO4J_RUN (writable).
set -eu
export NEO4J_CONF="$NEO4J_RUN/conf"
mkdir -p "$NEO4J_CONF"
cat >"$NEO4J_CONF/neo4j.conf" <<CONF
server.directories.data=$NEO4J_DATA
server.directories.logs=$NEO4J_RUN/logs
server.directories.run=$NEO4J_RUN/run
CONF
grep '^server\.jvm\.additional=' "$NEO4J_FILES/neo4j.conf" >>"$NEO4J_CONF/neo4j.conf"

# Else the chain is fetched into the folder where it is run, which cannot be written to.
mkdir -p "$NEO4J_DATA/chain"
neo4j-admin database restore --from-path="$BACKUP" ${UNTIL:+"--restore-until=$UNTIL"} \
    --temp-path="$NEO4J_DATA/chain" --overwrite-destination=true "$DATABASE"
exec neo4j-admin database dump "$DATABASE" --to-path="$TARGET" --overwrite-destination=true
