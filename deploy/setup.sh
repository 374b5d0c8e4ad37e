#!/bin/bash
# setup.sh run|test -- install what building and running Tern (run), or testing it as well (test), needs.
#
# Each row says: Debian package, how to see that it is there, what for. With apt the missing ones are installed; elsewhere
# the list is printed and we stop. When nothing is missing this takes no time and changes nothing.
set -u

rows_run() {
    cat <<'ROWS'
gcc|command gcc|the compiler
libc6-dev|header stdio.h|the C library's headers
make|command make|the build
liburing-dev|header liburing.h|io_uring, the fast way to serve sockets
libyaml-dev|header yaml.h|reading the configuration
libjansson-dev|header jansson.h|JSON: tokens, and the load tool's results
libssl-dev|header openssl/ssl.h|TLS, hashes, signatures
libcurl4-openssl-dev|header curl/curl.h|asking an HTTP service who may connect
libargon2-dev|header argon2.h|password hashes
liblmdb-dev|header lmdb.h|sessions and retained messages on the disk
libprotobuf-c-dev|header protobuf-c/protobuf-c.h|what nodes say to each other
protobuf-c-compiler|command protoc-c|the same, as C
mosquitto-clients|command mosquitto_pub|mosquitto_pub and mosquitto_sub, to show the broker at work
ROWS
}

rows_test() {
    cat <<ROWS
clang|command clang|the second compiler, and the fuzzer
$(fuzzer_package)|fuzzer|libFuzzer and the sanitizers of clang
clang-format|command clang-format|make check: formatting
cppcheck|command cppcheck|make check: static analysis
mandoc|command mandoc|make check: manual pages
libcunit1-dev|header CUnit/CUnit.h|the unit tests
python3|command /usr/bin/python3|the test programs
python3-yaml|python yaml|reads the manifests for Kubernetes
python3-paho-mqtt|python paho.mqtt.client|a real client: Paho for Python
libmosquitto-dev|header mosquitto.h|a real client: libmosquitto
libpaho-mqtt-dev|header MQTTClient.h|a real client: Paho for C
prometheus|command promtool|the judge of /metrics; its service stays off
mosquitto|command /usr/sbin/mosquitto|the broker to compare with; its service stays off
nodejs|command node|runs a real client: MQTT.js
npm|command npm|installs MQTT.js
chromium|command chromium|a real browser for MQTT over WebSocket
iproute2|command ip|several hosts on one machine: network namespaces
nftables|command /usr/sbin/nft|networks that fall apart between them
haproxy|command haproxy|a real load balancer for the PROXY protocol; its service stays off
systemd|command systemd-analyze|the judge of the service unit; it is not started
debhelper|command dh|builds the Debian package
dpkg-dev|command dpkg-buildpackage|the same
lintian|command lintian|the judge of the Debian package
jose|command jose|makes the tokens that ours must accept
openssl|command openssl|certificates and a TLS client to test with
ROWS
}

# The run-time library has clang's version in its name; Debian 12 has 14.
fuzzer_package() {
    local version
    if present fuzzer; then
        echo "libclang-rt-dev"
        return
    fi
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -n 1)
    echo "libclang-rt-${version:-14}-dev"
}

# Whether the thing is there, however it came there: a package of another name, or a build of one's own, will do.
present() {
    case $1 in
    command) command -v "$2" >/dev/null ;;
    header) compgen -G "/usr/include/$2" >/dev/null || compgen -G "/usr/local/include/$2" >/dev/null ||
        compgen -G "/usr/include/*-linux-gnu*/$2" >/dev/null ;;
    python) /usr/bin/python3 -c "import $2" 2>/dev/null ;;
    fuzzer) compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*.a" >/dev/null ||
        compgen -G "/usr/lib*/clang/*/lib/*/libclang_rt.fuzzer*.a" >/dev/null ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env "$@"
    else
        sudo env "$@"
    fi
}

# Debian starts a service as soon as its package is unpacked. Mosquitto's would sit on port 1883, so services are kept from
# starting while we install (policy-rc.d is Debian's way to say so), and those that we brought are turned off for the next
# boot too.
install() {
    local policy=/usr/sbin/policy-rc.d service new=() ours=no status=0
    for service in mosquitto haproxy; do
        present command "/usr/sbin/$service" || new+=("$service")
    done
    present command promtool || new+=(prometheus)
    if [ ! -e "$policy" ]; then
        ours=yes
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy" || return 1
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    as_root DEBIAN_FRONTEND=noninteractive apt-get update -q &&
        as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" || status=$?
    if [ $ours = yes ]; then
        as_root rm -f "$policy"
        trap - EXIT
    fi
    for service in "${new[@]}"; do
        present command "/usr/sbin/$service" || present command "/usr/bin/$service" || continue
        if [ -d /run/systemd/system ]; then
            as_root systemctl disable --now "$service.service" >/dev/null 2>&1
        else
            as_root update-rc.d "$service" disable >/dev/null 2>&1
        fi
    done
    return "$status"
}

main() {
    local rows package probe purpose missing=()
    case ${1:-} in
    run) rows=$(rows_run) ;;
    test) rows=$(rows_run && rows_test) ;;
    *)
        echo "usage: $0 run|test" >&2
        exit 2
        ;;
    esac
    while IFS='|' read -r package probe purpose; do
        # shellcheck disable=SC2086 # the probe is two words
        present $probe && continue
        [ ${#missing[@]} -gt 0 ] || echo "Tern needs these packages, which are not here:"
        printf '  %-20s %s\n' "$package" "$purpose"
        missing+=("$package")
    done <<<"$rows"
    [ ${#missing[@]} -gt 0 ] || exit 0

    if ! command -v apt-get >/dev/null; then
        echo "There is no apt on this system: please install them (the names are Debian's) and call make again."
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        echo "Neither are you root nor is there sudo. As root: apt-get install ${missing[*]}"
        exit 1
    fi
    echo "Installing them with apt."
    if ! install "${missing[@]}"; then
        echo "apt could not install all of: ${missing[*]}" >&2
        exit 1
    fi
}

main "$@"
