#!/bin/sh
# The installed `observer` command: the same places as the service has under systemd, unless the caller says otherwise.
: "${OBSERVER_CONFIG:=/etc/observer/observer.toml}"
: "${STATE_DIRECTORY:=/var/lib/observer}"
: "${CACHE_DIRECTORY:=/var/cache/observer}"
: "${RUNTIME_DIRECTORY:=/run/observer}"
export OBSERVER_CONFIG STATE_DIRECTORY CACHE_DIRECTORY RUNTIME_DIRECTORY
if [ -z "${CREDENTIALS_DIRECTORY:-}" ] && [ -r /etc/observer/credentials ]; then
    export CREDENTIALS_DIRECTORY=/etc/observer/credentials
fi
exec /opt/observer/current/bin/observer "$@"
