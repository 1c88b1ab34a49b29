# The virtual machine's second program, now with all files: runs the command, tells its status, turns the machine off.
. /run/vm/settings
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TMPDIR=/tmp
b=/run/vm/busybox

for port in /sys/class/virtio-ports/*; do
  read -r name <"$port/name"
  case $name in
    output) output=/dev/${port##*/} ;;
    status) status=/dev/${port##*/} ;;
    record) record=/dev/${port##*/} ;;
  esac
done
$b hostname vm
$b ip link set lo up
# Else every new namespace has tunl0, sit0 and more of their kind from the moment on that a test has used one.
echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net
# Loading these takes longer, where all is emulated, than a test's first nft may; tests load every other module by using it.
modprobe -a nf_tables nft_chain_nat nft_ct nft_masq vxlan bridge veth tun
# One argument a line.
IFS='
'
set -f
set -- $($b cat /run/vm/argv)
unset IFS
cd "$checkout" || exit 1
# The session goes on as the first program, which takes in every orphan.
"$@" </dev/null >"$output" 2>&1
code=$?
[ -e /run/vm/record ] && $b cat /run/vm/record >"$record"
echo $code >"$status"
$b poweroff -f
