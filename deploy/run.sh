#!/bin/bash
# run.sh TERN -- start Tern on free ports of this machine, show it at work, and leave it in the foreground.
#
# NODES=n nodes, 3 if nothing is said, that are one broker; NODES=1: one by itself. RUN_ONCE=1 ends them after the
# demonstration, with status 0 only if the message went through.
set -u

tern=${1:?usage: run.sh path/to/tern}
nodes=${NODES:-3}
topic=hello/tern
text="Tern says hello"
data=$(dirname "$tern")/../run-data
certs=$(dirname "$tern")/../run-certs
ports=() links=() admins=() brokers=()

case $nodes in
[1-9]) ;;
*)
    echo "NODES=$nodes: from 1 to 9." >&2
    exit 2
    ;;
esac

port_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The first `nodes` free ports from $1 on, within a hundred, into the array named $2.
free_ports() {
    local -n found=$2
    local port=$1
    while [ ${#found[@]} -lt "$nodes" ]; do
        if [ "$port" -gt $(($1 + 100)) ]; then
            echo "Too many ports from $1 to $(($1 + 100)) are taken." >&2
            exit 1
        fi
        port_taken "$port" || found+=("$port")
        port=$((port + 1))
    done
}

stop() {
    local status=0 broker
    [ ${#brokers[@]} -eq 0 ] || kill -TERM "${brokers[@]}" 2>/dev/null
    for broker in "${brokers[@]}"; do
        wait "$broker" || status=$?
    done
    return $status
}

# Node $1, of all: its arguments, into `arguments`.
describe_node() {
    local i=$1 link seeds=
    arguments=(--listen "tcp://127.0.0.1:${ports[i]}" --data "$data" --set "admin.listen=127.0.0.1:${admins[i]}")
    [ "$nodes" -gt 1 ] || return
    for link in "${links[@]}"; do
        seeds=$seeds${seeds:+,}127.0.0.1:$link
    done
    arguments=(--listen "tcp://127.0.0.1:${ports[i]}" --data "$data/node$((i + 1))" --set "node.name=node$((i + 1))"
        --set "admin.listen=127.0.0.1:${admins[i]}"
        --set "cluster.listen=127.0.0.1:${links[i]}" --set "cluster.seeds=$seeds" --set sys_interval=2s
        --set "cluster.ca=$certs/ca.crt" --set "cluster.key_file=$certs/gossip.keys"
        --set "cluster.certificate=$certs/node$((i + 1)).crt" --set "cluster.key=$certs/node$((i + 1)).key")
}

# Certificates for the links between the nodes, new ones at each start, from an authority that signs nobody else.
make_certs() {
    local i names=()
    for ((i = 1; i <= nodes; i++)); do
        names+=(--node "node$i")
    done
    "$(dirname "$tern")/ternctl" certs "$certs" --force "${names[@]}" >/dev/null || exit 1
    echo "The links between the nodes are TLS with certificates on both sides, from $certs."
}

wait_until_open() {
    local i=$1
    for _ in $(seq 100); do
        port_taken "${ports[i]}" && return
        kill -0 "${brokers[i]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "Tern did not start; its own words are above." >&2
    stop
    exit 1
}

# What the last node knows of all of them, as soon as it knows them.
show_members() {
    local port=${ports[nodes - 1]} members=
    for _ in $(seq 60); do
        members=$(mosquitto_sub -h 127.0.0.1 -p "$port" -t '$SYS/broker/cluster/members' -C 1 -W 3)
        [ "$(grep -o alive <<<"$members" | wc -l)" -eq "$nodes" ] && break
        sleep 0.5
    done
    echo
    echo "\$ mosquitto_sub -h 127.0.0.1 -p $port -t '\$SYS/broker/cluster/members' -C 1"
    echo "$members"
}

# A subscriber at the last node waits for one message while we publish at the first until it has come: the first ones
# may be early.
demonstrate() {
    local subscriber from=${ports[0]} to=${ports[nodes - 1]}
    [ "$nodes" -eq 1 ] || show_members
    echo
    echo "\$ mosquitto_sub -h 127.0.0.1 -p $to -t 'hello/#' -v &"
    echo "\$ mosquitto_pub -h 127.0.0.1 -p $from -t $topic -q 1 -m '$text'"
    mosquitto_sub -h 127.0.0.1 -p "$to" -t 'hello/#' -C 1 -W 10 -v &
    subscriber=$!
    for _ in $(seq 40); do
        mosquitto_pub -h 127.0.0.1 -p "$from" -t "$topic" -q 1 -m "$text" || break
        sleep 0.2
        kill -0 "$subscriber" 2>/dev/null || break
    done
    wait "$subscriber"
}

# Two that start at the same moment would find the same ports free: the second waits until the first one's are taken.
turn=${XDG_RUNTIME_DIR:-/tmp}/tern-run-$(id -u).lock
if command -v flock >/dev/null && exec 9>>"$turn"; then
    flock -w 60 9 || echo "Another start has held $turn for a minute; going on."
fi
free_ports 1883 ports
[ "${ports[0]}" -eq 1883 ] || echo "Port 1883 is taken; using ${ports[*]}."
free_ports 18083 admins
if [ "$nodes" -gt 1 ]; then
    free_ports 7883 links
    make_certs
fi
mkdir -p "$data"
trap 'stop; exit' INT TERM
for ((i = 0; i < nodes; i++)); do
    describe_node "$i"
    "$tern" "${arguments[@]}" 9>&- &
    brokers+=($!)
done
for ((i = 0; i < nodes; i++)); do
    wait_until_open "$i"
done
exec 9>&-

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

url=
[ "${admins[0]}" -eq 18083 ] || url=" --url http://127.0.0.1:${admins[0]}"
cat <<TEXT

Tern listens at ${ports[*]/#/tcp://127.0.0.1:}. In another terminal:
  mosquitto_sub -p ${ports[0]} -t '#' -v                    see all that is published, on whichever node
  mosquitto_sub -p ${ports[0]} -t '\$SYS/#' -v               what the broker tells of itself
  build/ternctl$url cluster status                      how the nodes are; build/ternctl --help: all it can do
  build/tern --print-config > tern.yaml             all that can be set
The README goes on from there. Ctrl-C ends it.
TEXT
wait
