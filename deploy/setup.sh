#!/bin/sh
# What compose.yaml does before mds serve: the schema, and the API key by which Prometheus reads
# the metrics. Done again it changes nothing, and makes a key where that is no longer good.
set -eu
umask 077
mds migrate
key=${KEYS:-/run/mds}/metrics.key
was=
[ ! -s "$key" ] || was=$(cut -d_ -f2 "$key")
if [ -n "$was" ] && mds keys list | grep -q "^$was .* metrics  *active "; then
	exit 0
fi
mds keys create --scopes metrics --name prometheus >"$key.new"
chmod 0640 "$key.new" # Prometheus is another user, in this group
mv "$key.new" "$key"
# One of before may do more.
if [ -n "$was" ] && mds keys list --all-tenants | grep -q "^$was .* active "; then
	mds keys revoke "$was"
fi
