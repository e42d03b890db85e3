#!/bin/sh
# Runs as root in the phone's new namespaces: builds the file tree, moves into it and becomes its init.
# Environment: BASE (shared root folder), VENDOR (folder or empty), DATA_SIZE; argument: the phone's own folder.
set -eu
own=$1 root=$1/merged
mount --make-rprivate /
layers=lowerdir=$BASE,upperdir=$own/upper,workdir=$own/work
mount -t overlay overlay -o "$layers" "$root" 2>/dev/null || mount -t overlay overlay -o "$layers,userxattr" "$root"
mount -t proc -o nosuid proc "$root/proc"

mount -t tmpfs -o size=64k,mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in 'null 1 3' 'zero 1 5' 'full 1 7' 'random 1 8' 'urandom 1 9' 'tty 5 0'; do
  set -- $device
  mknod -m 666 "$root/dev/$1" c "$2" "$3" 2>/dev/null || {  # a plain user may not make devices: borrow the host's
    : >"$root/dev/$1"
    mount --bind "/dev/$1" "$root/dev/$1"
  }
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

mount -t tmpfs -o "size=$DATA_SIZE,mode=771" tmpfs "$root/data"
for folder in local/tmp property settings log; do
  mkdir -p "$root/data/$folder"
  chmod 777 "$root/data/$folder"
done
mount -t tmpfs -o size=4m tmpfs "$root/run"
mkdir "$root/run/log" "$root/run/state"
mount --bind "$own/sys" "$root/sys"
mount --bind "$own/state" "$root/run/state"
mount --bind "$own/log" "$root/run/log"
if [ -n "$VENDOR" ]; then
  mkdir -p "$root/vendor/tflite" "$root/etc/OpenCL/vendors"
  mount --bind "$VENDOR" "$root/vendor/tflite"
  mount -o remount,bind,ro "$root/vendor/tflite" 2>/dev/null || :  # a plain user may not change another owner's mount
  echo /vendor/tflite/gpu/usr/lib/x86_64-linux-gnu/libpocl.so.2 >"$root/etc/OpenCL/vendors/pocl.icd"
fi
: >"$root/system/build.prop"
mount --bind "$own/build.prop" "$root/system/build.prop"
for file in meminfo cpuinfo; do mount --bind "$own/$file" "$root/proc/$file"; done
if [ -f "$own/adb_keys" ]; then
  : >"$root/adb_keys"
  mount --bind "$own/adb_keys" "$root/adb_keys"
fi
hostname "$(basename "$own")" 2>/dev/null || :
cd "$root"
mkdir -p .old
pivot_root . .old
cd /
exec /init
