#!/bin/sh
# Works out the signatures that TestWebhookSigns and TestReceiver expect, by timestamp.
for timestamp in 946684800 946685101 noon; do
	printf %s "$timestamp"'.{"coordinator_id":"bars","queue_size":9,"capacity":10,"utilization":0.9,"level":"hard","source":"store","ts":946684800,"suggested_rate":0}' |
		openssl dgst -sha256 -hmac topsecret | sed "s/.*= /$timestamp sha256=/"
done
