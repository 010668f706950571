#!/bin/sh
# Joins passwords from secret files to the addresses a process needs, then becomes that process.
# The addresses exist in its environment only, so `docker inspect` does not show them.
set -eu

secrets=${PERPETUNE_SECRETS_DIR:-/run/secrets}
database=${DATABASE_ADDRESS:-postgres:5432/perpetune}

PERPETUNE_DATABASE_APP_URL="postgresql+psycopg://app:$(cat "$secrets/app_password")@$database"
PERPETUNE_DATABASE_SPINE_URL="postgresql+psycopg://spine:$(cat "$secrets/spine_password")@$database"
PERPETUNE_BUS_URL="redis://:$(cat "$secrets/bus_password")@${BUS_ADDRESS:-bus:6379/0}"
PERPETUNE_CACHE_URL="redis://:$(cat "$secrets/cache_password")@${CACHE_ADDRESS:-cache:6379/0}"
export PERPETUNE_DATABASE_APP_URL PERPETUNE_DATABASE_SPINE_URL PERPETUNE_BUS_URL PERPETUNE_CACHE_URL

exec "$@"
