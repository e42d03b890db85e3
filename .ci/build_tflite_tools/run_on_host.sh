#!/bin/sh
# Runs NAME.bin beside this script with the bundle's own loader, libraries, GPU driver (PoCL) and, at need, linker.
bundle=$(dirname "$(readlink -f "$0")")
name=$(basename "$0")
driver=$bundle/gpu/usr/lib/x86_64-linux-gnu
export OCL_ICD_VENDORS="${OCL_ICD_VENDORS:-$driver/libpocl.so.2}" PATH="$PATH:$bundle/bin"
exec "$bundle/lib/ld-linux-x86-64.so.2" --library-path "$bundle/lib:$driver" --argv0 "$name" "$bundle/$name.bin" "$@"
