#!/bin/sh
# What compose.yaml does before mds serve: the schema, and the API key by which Prometheus reads
# the metrics. Done again it changes nothing, and makes a key where that is no longer good.
set -eu
umask 077
mds migrate
key=${KEYS:-/run/mds}/metrics.key
all=$(mds keys list --all-tenants)
id() { cut -d_ -f2 "$1"; }
# is tells whether a file has a key that is listed like that.
is() { [ -s "$1" ] && printf '%s\n' "$all" | grep -q "^$(id "$1") .*$2"; }
if ! is "$key" ' metrics  *active '; then
	mds keys create --scopes metrics --name prometheus >"$key.new"
	chmod 0640 "$key.new" # Prometheus is another user, in this group
	[ ! -s "$key" ] || cp "$key" "$key.former"
	mv "$key.new" "$key"
fi
# One of before may do more than read the metrics. Where this was interrupted it goes the next time.
if is "$key.former" ' active '; then
	mds keys revoke "$(id "$key.former")"
fi
rm -f "$key.former"
