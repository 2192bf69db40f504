#!/bin/sh
# Succeeds when this server has its dataset: as a master, or as a replica in sync with its master.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

[ "$(ask "$here" ping)" = PONG ] && [ -n "$(named_by_server "$here")" ]
