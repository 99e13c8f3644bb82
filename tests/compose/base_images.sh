#!/usr/bin/env bash
# Makes stand-ins for the two official images that the project builds on, from Debian's packages alone, for
# machines that reach a Debian mirror but no image registry. Run as root; needs debootstrap and docker.
#
#   tests/compose/base_images.sh [--ca FILE] [--mirror URL]
#
# --ca: a bundle of certificates that programs in the images trust beside their own, where a proxy is in the way.
set -euo pipefail

release=bookworm
postgres_major=15
mirror=http://deb.debian.org/debian
ca=
while [ $# -gt 0 ]; do
    case "$1" in
        --ca) ca=$(realpath "$2"); shift 2 ;;
        --mirror) mirror=$2; shift 2 ;;
        *) echo "usage: $0 [--ca FILE] [--mirror URL]" >&2; exit 2 ;;
    esac
done

python_image=python:3.11.14-slim-bookworm
postgres_image=postgres:$postgres_major
for image in "$python_image" "$postgres_image"; do
    if docker image inspect "$image" >/dev/null 2>&1; then
        echo "$image is there already: remove it first (docker rmi $image)" >&2
        exit 1
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

bootstrap() { # folder, packages
    debootstrap --variant=minbase --include="$2" "$release" "$scratch/$1" "$mirror" >"$scratch/$1.log" 2>&1 \
        || { tail -5 "$scratch/$1.log" >&2; exit 1; }
    rm -rf "$scratch/$1"/var/cache/apt/archives/*.deb "$scratch/$1"/var/lib/apt/lists/*
}

echo "$python_image: Python of Debian $release"
bootstrap python ca-certificates,python3,python3-pip,python3-venv
# As in the official image: /usr/local/bin/python and pip, which may install.
rm -f "$scratch"/python/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python3 pip3; do
    ln -s "/usr/bin/$name" "$scratch/python/usr/local/bin/$name"
    ln -s "/usr/bin/$name" "$scratch/python/usr/local/bin/${name%3}"
done
changes=(--change 'CMD ["python3"]' --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')
if [ -n "$ca" ]; then
    bundle=/etc/ssl/certs/ca-certificates.crt
    cat "$ca" >>"$scratch/python$bundle"
    changes+=(--change "ENV SSL_CERT_FILE=$bundle PIP_CERT=$bundle")
fi
tar -C "$scratch/python" -c . | docker import "${changes[@]}" - "$python_image"

echo "$postgres_image: PostgreSQL of Debian $release"
bootstrap postgres "postgresql-$postgres_major"
rm -rf "$scratch"/postgres/var/lib/postgresql/*
# What the project uses of the official entry point: the variables POSTGRES_*, and a server that listens.
cat >"$scratch/postgres/usr/local/bin/docker-entrypoint.sh" <<'ENTRYPOINT'
#!/bin/bash
set -euo pipefail
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?}"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --encoding=UTF8 \
        --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    pg_ctl -w start -o "-c listen_addresses=''"
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sh; do . "$script"; done
    pg_ctl -w -m fast stop
fi
exec "$@"
ENTRYPOINT
chmod 755 "$scratch/postgres/usr/local/bin/docker-entrypoint.sh"
tar -C "$scratch/postgres" -c . | docker import \
    --change "ENV PATH=/usr/lib/postgresql/$postgres_major/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    --change "ENV PGDATA=/var/lib/postgresql/data POSTGRES_USER=postgres POSTGRES_DB=postgres" \
    --change 'ENTRYPOINT ["docker-entrypoint.sh"]' --change 'CMD ["postgres"]' --change 'EXPOSE 5432' \
    --change 'VOLUME /var/lib/postgresql/data' - "$postgres_image"
