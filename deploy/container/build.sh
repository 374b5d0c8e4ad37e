#!/bin/bash
# build.sh DEB OUT -- make OUT/tern.tar, a container image of Tern's Debian package DEB: the programs, the libraries that the
# package depends on, certificates of authorities, a user. No shell, no package manager. `podman load`, `docker load` and
# `ctr images import` take it as localhost/tern:VERSION. As root, with mmdebstrap and podman; nothing is fetched but
# Debian's packages.
set -euo pipefail
deb=$(realpath "${1:?usage: build.sh DEB OUT}") out=$(realpath -m "${2:?usage: build.sh DEB OUT}")
version=$(dpkg-deb --field "$deb" Version)
# The user comes from below, not from systemd's tool.
needs=$(dpkg-deb --field "$deb" Depends | tr ',' '\n' | grep -v systemd | sed 's/(.*//; s/|.*//; s/ //g' | paste -sd,)
mkdir -p "$out"

fill_root() {
    local root=$1
    dpkg-deb --extract "$deb" "$root"
    (cd "$root/tmp" && apt-get -q -c "$MMDEBSTRAP_APT_CONFIG" download ca-certificates && dpkg-deb --extract ca-certificates_*.deb "$root")
    mkdir -p "$root/etc/ssl/certs" "$root/var/lib/tern"
    find "$root/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
    echo 'tern:x:10883:10883::/var/lib/tern:/usr/sbin/nologin' >"$root/etc/passwd"
    echo 'tern:x:10883:' >"$root/etc/group"
    chown 10883:10883 "$root/var/lib/tern"
    chmod 700 "$root/var/lib/tern"
    # What no program reads: pages, other languages, other characters, lists of packages, the service.
    rm -rf "$root"/usr/share/{man,locale,lintian,bash-completion,ca-certificates,bug} "$root"/usr/lib/*/gconv "$root"/lib/systemd \
        "$root"/var/{cache,log,lib/{apt,dpkg}} "$root"/tmp/*
    find "$root/usr/share/doc" -type f ! -name copyright -delete
}
export deb
export -f fill_root
mmdebstrap --quiet --mode=root --variant=extract --include="base-files,$needs" --customize-hook='bash -euc "fill_root \"\$1\"" bash "$1"' \
    bookworm "$out/root.tar"

# A store of images of our own, so that nobody else's is touched.
podman=(podman --root "$out/store" --runroot "$out/run" --storage-driver vfs)
"${podman[@]}" import --quiet \
    --change 'USER 10883:10883' --change 'VOLUME /var/lib/tern' --change 'WORKDIR /var/lib/tern' \
    --change 'EXPOSE 1883' --change 'EXPOSE 8883' --change 'EXPOSE 8083' --change 'EXPOSE 18083' --change 'EXPOSE 7000' --change 'EXPOSE 7000/udp' \
    --change 'STOPSIGNAL SIGTERM' --change 'ENTRYPOINT ["/usr/bin/tern"]' --change 'CMD ["--data", "/var/lib/tern"]' \
    --change "LABEL org.opencontainers.image.title=tern" --change "LABEL org.opencontainers.image.version=$version" \
    "$out/root.tar" "localhost/tern:$version" >/dev/null
rm -f "$out/tern.tar"
"${podman[@]}" save --quiet --output "$out/tern.tar" "localhost/tern:$version"
"${podman[@]}" rmi --all --force >/dev/null
rm -rf "$out/root.tar" "$out/store" "$out/run"
echo "$out/tern.tar: localhost/tern:$version"
