#!/bin/sh
# Succeeds while a restart would not help: any answer will do, "LOADING" included, and so does a
# start script that still waits for a majority.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

[ -e "$deciding" ] || [ -n "$(ask "$here" ping)" ]
