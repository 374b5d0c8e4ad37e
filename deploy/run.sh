#!/bin/bash
# run.sh TERN -- start Tern on a free port of this machine, show it at work, and leave it in the foreground.
#
# RUN_ONCE=1 ends it after the demonstration, with status 0 only if the message went through.
set -u

tern=${1:?usage: run.sh path/to/tern}
topic=hello/tern
text="Tern says hello"

port_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

stop() {
    kill -TERM "$broker" 2>/dev/null
    wait "$broker"
}

# A subscriber waits for one message while we publish until it has come: the first ones may be early.
demonstrate() {
    local subscriber
    echo
    echo "\$ mosquitto_sub -h 127.0.0.1 -p $port -t 'hello/#' -v &"
    echo "\$ mosquitto_pub -h 127.0.0.1 -p $port -t $topic -q 1 -m '$text'"
    mosquitto_sub -h 127.0.0.1 -p "$port" -t 'hello/#' -C 1 -W 10 -v &
    subscriber=$!
    for _ in $(seq 40); do
        mosquitto_pub -h 127.0.0.1 -p "$port" -t "$topic" -q 1 -m "$text" || break
        sleep 0.2
        kill -0 "$subscriber" 2>/dev/null || break
    done
    wait "$subscriber"
}

port=1883
while port_taken "$port"; do
    port=$((port + 1))
    if [ "$port" -gt 1983 ]; then
        echo "Every port from 1883 to 1983 is taken." >&2
        exit 1
    fi
done
[ "$port" -eq 1883 ] || echo "Port 1883 is taken; using $port."

data=$(dirname "$tern")/../run-data
trap 'stop; exit' INT TERM
"$tern" --listen "tcp://127.0.0.1:$port" --data "$data" &
broker=$!
for _ in $(seq 100); do
    port_taken "$port" && break
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.1
done
if ! port_taken "$port"; then
    echo "Tern did not start; its own words are above." >&2
    stop
    exit 1
fi

status=0
if command -v mosquitto_pub >/dev/null && command -v mosquitto_sub >/dev/null; then
    demonstrate || status=$?
    [ "$status" -eq 0 ] || echo "The message did not come through (status $status)." >&2
else
    echo "mosquitto_pub and mosquitto_sub are not here, so nothing is shown."
fi
if [ "${RUN_ONCE:-0}" = 1 ]; then
    stop || status=$?
    exit "$status"
fi

cat <<TEXT

Tern listens at tcp://127.0.0.1:$port. In another terminal:
  mosquitto_sub -p $port -t '#' -v                    see all that is published
  mosquitto_sub -p $port -t '\$SYS/#' -v               what the broker tells of itself
  build/tern --print-config > tern.yaml             all that can be set
The README goes on from there. Ctrl-C ends the broker.
TEXT
wait "$broker"
