#!/bin/sh
# Fetches the backup $REDIS_RECOVERY that a new cache begins with, onto an empty volume.
#
# Only the server that is master at the very first start needs it: ordinal 0. The others copy that.
set -eu
umask 077

case $POD_NAME in
    *-0) ;;
    *) exit 0 ;;
esac
[ ! -e "$REDIS_DATA/appendonlydir" ] && [ ! -e "$REDIS_DATA/recovery.rdb" ] || exit 0
aws s3 cp --no-progress "$REDIS_RECOVERY" "$REDIS_DATA/recovery.partial"
mv "$REDIS_DATA/recovery.partial" "$REDIS_DATA/recovery.rdb"
