#!/bin/sh
# What compose.yaml does before mds serve: the schema, and the API key by which Prometheus reads
# the metrics. Done again it changes nothing, and makes a key where that is no longer good.
set -eu
umask 077
mds migrate
key=${KEYS:-/run/mds}/metrics.key
# A tenant of its own, which has nothing: the scope admin is for what a tenant has, and metrics.
mds tenant list | grep -q '^metrics ' || mds tenant create metrics
was=
[ ! -s "$key" ] || was=$(cut -d_ -f2 "$key")
if [ -n "$was" ] && mds keys list --tenant metrics | grep -q "^$was .* active "; then
	exit 0
fi
mds keys create --tenant metrics --scopes admin --name prometheus >"$key.new"
chmod 0640 "$key.new" # Prometheus is another user, in this group
mv "$key.new" "$key"
# One of before was the default tenant's.
if [ -n "$was" ] && mds keys list --all-tenants | grep -q "^$was .* active "; then
	mds keys revoke "$was"
fi
