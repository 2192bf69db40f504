#!/bin/sh
# Succeeds when this Sentinel and the ones it reaches could fail over: a roll-out waits for that.
set -eu
# shellcheck source=components/redis_files/lib.sh
. "$REDIS_CONFIG/lib.sh"

ask "$here" sentinel ckquorum "$REDIS_MASTER_NAME" | grep -q '^OK'
