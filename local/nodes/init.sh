#!/bin/sh
# The first process of a node: makes the node's own root and runs its daemons.
# It starts in mount, pid, uts, ipc and network namespaces that are the node's alone; whatever it
# mounts or runs is gone with it. Its configuration is FOLDER/node.env:
#   NAME, FOLDER   of the node; FOLDER is at the same path inside
#   IMAGE          the unpacked root file system, never written to
#   TOOLS          programs to put on PATH
#   CORES          that the node says it has
#   CGROUPS        files that take the pid of a process of the node
#   DISK           a file that holds the file system of its volumes; empty: they are on FOLDER's
#   STORE          instead of being a node: import ARCHIVES into this containerd folder, make
#                  FOLDER/done, and end
set -eu
# shellcheck source=/dev/null
. "$1/node.env"

for file in $CGROUPS; do echo 0 >"$file"; done

root=$FOLDER/root
rm -rf "$FOLDER/upper" "$FOLDER/work"
mkdir -p "$FOLDER/upper" "$FOLDER/work" "$root" "$FOLDER/kubelet" "$FOLDER/logs" "$FOLDER/volumes"
mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$root"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/.old" \
    "$root/var/lib/kubelet" "$root/var/lib/containerd" "$root/var/log/pods"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root$FOLDER"
mount --bind "$FOLDER" "$root$FOLDER"
mount --bind "$FOLDER/kubelet" "$root/var/lib/kubelet"
mount --bind "${STORE:-$FOLDER/containerd}" "$root/var/lib/containerd"
mkdir -p "$root/usr/local/bin"
for tool in $TOOLS; do
    touch "$root/usr/local/bin/${tool##*/}"
    mount --bind "$tool" "$root/usr/local/bin/${tool##*/}"
done
for archive in ${ARCHIVES:-}; do
    mkdir -p "$root${archive%/*}"
    touch "$root$archive"
    mount --bind "$archive" "$root$archive"
done
# The kubelet wants to set these for the whole machine: it gets files to write to instead.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=$FOLDER/work/$(echo "$name" | tr / .)
    cat "/proc/sys/$name" >"$copy"
    mount --bind "$copy" "$root/proc/sys/$name"
done
# The kubelet counts the machine's cores here, and schedules no more than that.
cores=$FOLDER/work/cores
mkdir "$cores" "$FOLDER/work/none"
for number in $(seq 0 $((CORES - 1))); do mkdir "$cores/cpu$number"; done
mount --bind "$cores" "$root/sys/devices/system/cpu"
[ ! -d "$root/sys/devices/system/node" ] ||
    mount --bind "$FOLDER/work/none" "$root/sys/devices/system/node"
printf '127.0.0.1\tlocalhost\n' >"$root/etc/hosts"
cd "$root"
pivot_root . .old
umount -l /.old
mount --make-rshared /
# A loop device that is freed with its last mount: it ends with the node, however that ends. The kernel
# outlives the node, so nobody waits until this machine's own disk has what was written.
[ -z "${DISK:-}" ] || mount -o loop,noatime,discard,barrier=0 "$DISK" "$FOLDER/volumes"
echo "$NAME" >/proc/sys/kernel/hostname
export PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root

await() { # LIMIT COMMAND…: until the command succeeds, at most LIMIT tenths of a second
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "gave up waiting for: $*" && return 1; }
        sleep 0.1
    done
}

keep() { # NAME COMMAND…: run it, and again whenever it ends, as a system's service manager does
    name=$1
    shift
    while :; do
        "$@" >>"$FOLDER/logs/$name.log" 2>&1 || echo "$name ended with $?"
        sleep 1
    done
}

if [ -n "${STORE:-}" ]; then
    containerd --config "$FOLDER/containerd.toml" >"$FOLDER/logs/containerd.log" 2>&1 &
    await 300 ctr version
    for archive in $ARCHIVES; do
        ctr --namespace k8s.io images import --local "$archive"
    done
    kill $!
    wait
    touch "$FOLDER/done"
    exit
fi

keep containerd containerd --config "$FOLDER/containerd.toml" &
await 300 ctr version
await 300 test -e "$FOLDER/linked"
# Before containerd and what it starts, by the dozen where a node is emptied: a kubelet that is not heard
# of for 8 s is a node that is lost.
keep kubelet nice -n -10 kubelet \
    --config "$FOLDER/kubelet.json" \
    --kubeconfig "$FOLDER/kubelet.kubeconfig" \
    --hostname-override "$NAME" \
    --node-ip "$ADDRESS" \
    --node-labels "$LABELS" \
    --root-dir /var/lib/kubelet \
    --cert-dir "$FOLDER/pki" &
keep kube-proxy kube-proxy --config "$FOLDER/kube-proxy.json" &
wait
