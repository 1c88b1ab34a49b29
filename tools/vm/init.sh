#!/bin/busybox sh
# The virtual machine's first program. Puts a memory file system over the host's files, which stay as they are, and goes there.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /upper /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec 2>/dev/console
. /session/settings

while read -r module; do $b insmod "/modules/$module"; done </modules/order
$b mount -t virtiofs -o ro host /lower || exit 1
$b mount -t tmpfs -o size=80% upper /upper
over() {
  $b mkdir -p "/upper/$3/files" "/upper/$3/work" "$2"
  $b mount -t overlay -o "lowerdir=$1,upperdir=/upper/$3/files,workdir=/upper/$3/work" "$3" "$2" || exit 1
}
over /lower /new root
for folder in proc sys dev; do $b mount --move /$folder /new/$folder; done
for folder in run tmp; do $b mount -t tmpfs $folder /new/$folder; done
# A checkout below /tmp has just been hidden.
case $checkout in /tmp/* | /run/*) over "/lower$checkout" "/new$checkout" checkout ;; esac
$b mkdir -p /new/usr/lib/modules /new/dev/pts /new/dev/shm
$b mount --bind "/lower$modules" /new/usr/lib/modules
$b mount -t devpts devpts /new/dev/pts
$b mount -t tmpfs shm /new/dev/shm
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$b cp -r /session /new/run/vm
$b cp $b /new/run/vm/busybox
exec $b switch_root /new /run/vm/busybox sh /run/vm/session.sh
