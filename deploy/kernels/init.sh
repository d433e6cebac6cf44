#!/bin/busybox sh
# The guest's first process: the host's root, read-only, below a layer in memory that takes what is
# written, and the kernel's own modules and headers between them. Applets by their full name:
# busybox would prefer its own `ip` and `mount` for ever after.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /host /kernel /layer /root
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
$b echo "srv6dmm guest: $($b uname -r)"
while read -r module; do
  $b insmod "/modules/$module" || $b echo "srv6dmm guest: $module is refused"
done </order
over=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o "ro,$over,cache=loose" host /host &&
  $b mount -t 9p -o "ro,$over,cache=loose" kernel /kernel &&
  $b mount -t tmpfs -o mode=0755 tmpfs /layer &&
  $b mkdir /layer/upper /layer/work &&
  $b mount -t overlay -o lowerdir=/kernel:/host,upperdir=/layer/upper,workdir=/layer/work \
    overlay /root &&
  $b mount -t tmpfs -o mode=0755 tmpfs /root/run &&
  $b mkdir /root/run/results /root/run/tmp &&
  $b mount -t 9p -o "$over,cache=none" results /root/run/results || {
  $b echo "srv6dmm guest: no root"
  $b poweroff -f
}
for directory in proc sys dev; do
  $b mount -o move "/$directory" "/root/$directory"
done
exec $b switch_root /root /bin/sh /run/results/start.sh
