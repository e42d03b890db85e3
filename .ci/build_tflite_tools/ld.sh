#!/bin/sh
# The linker that PoCL calls for each kernel, with the bundle's own libraries: neither phone nor bare machine has one.
bundle=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$bundle/lib/ld-linux-x86-64.so.2" --library-path "$bundle/lib" "$bundle/bin/ld.bfd" -L"$bundle/lib/dev" "$@"
