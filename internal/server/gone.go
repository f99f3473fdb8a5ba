package server

import (
	"context"
	"net"
	"time"
)

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// goneEvery is how often it is looked whether a client has gone.
const goneEvery = 500 * time.Millisecond

// noticing ends a call when its client has gone, until the function that it returns is
// called. HTTP/2 tells; over HTTP/1 net/http sees it only while it reads, and a body that
// waits for room or for its tenant's rate is not read.
func noticing(c *call) (end func()) {
	conn, ok := c.Context().Value(connectionKey{}).(net.Conn)
	if !ok || c.r.ProtoMajor > 1 {
		return func() {}
	}
	before := c.r
	ctx, cancel := context.WithCancel(c.Context())
	c.r = c.r.WithContext(ctx)
	look := time.NewTicker(goneEvery)
	go func() {
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			if gone(conn) {
				cancel()
			}
		}
	}()
	return func() {
		if ctx.Err() == nil {
			c.r = before // whose client is there to be answered
		}
		cancel()
	}
}
