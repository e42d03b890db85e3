#!/bin/sh
# Starts a phone's namespaces and writes the process id. With OWNED set, standard input is a pipe whose other end the
# owner holds: when the owner ends, even on SIGKILL, the phone ends too.
pid_file=$1
shift
unshare "$@" </dev/null &
echo $! >"$pid_file"
if [ -n "${OWNED:-}" ]; then
  read -r _ || :
  kill -9 $!
fi
wait $!
