#!/bin/sh
# Starts a phone's namespaces and writes the process id. With OWNED set, standard input is a pipe whose other end the
# owner holds: when the owner ends, even on SIGKILL, the phone ends too.
pid_file=$1
shift
# As Android's init does, start with default signals: under nohup the phone's commands would outlive their connections.
env --default-signal unshare "$@" </dev/null &
echo $! >"$pid_file"
if [ -n "${OWNED:-}" ]; then
  read -r _ || :
  kill -9 $!
fi
wait $!
