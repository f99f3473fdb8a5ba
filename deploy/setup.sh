#!/bin/sh
# What compose.yaml does before mds serve: the schema, and the API key by which Prometheus reads
# the metrics. Done again it changes nothing, and makes a key where that is no longer good.
set -eu
umask 077
mds migrate
key=${KEYS:-/run/mds}/metrics.key
if [ -s "$key" ] && mds keys list --all-tenants | grep -q "^$(cut -d_ -f2 "$key") .* active "; then
	exit 0
fi
mds keys create --scopes admin --name prometheus >"$key.new"
chmod 0644 "$key.new" # Prometheus is another user
mv "$key.new" "$key"
