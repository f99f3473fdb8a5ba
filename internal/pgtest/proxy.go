package pgtest

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// Proxy stands between a client and a server, and makes the connection bad.
type Proxy struct {
	*toxiproxy.Proxy
	t testing.TB
}

// The directions in which data flows.
const (
	ToServer = "upstream"
	ToClient = "downstream"
)

// NewProxy starts a proxy to an address, which ends with the test.
func NewProxy(t testing.TB, addr string) *Proxy {
	t.Helper()
	registerCut()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", addr), t}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// Add has connections suffer from a toxic, such as bandwidth, latency or timeout (see
// toxiproxy's documentation).
func (p *Proxy) Add(kind, direction string, attributes map[string]any) {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{"name": kind, "type": kind, "stream": direction, "attributes": attributes})
	if err == nil {
		_, err = p.Toxics.AddToxicJson(bytes.NewReader(text))
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// CutAt ends each connection where a text is to pass, which does not.
func (p *Proxy) CutAt(direction, text string) {
	p.t.Helper()
	p.Add("cut", direction, map[string]any{"text": text})
}

// Heal removes all toxics, for new connections.
func (p *Proxy) Heal() { p.Toxics.ResetToxics(context.Background()) }

// cut ends the connection at a text.
type cut struct {
	Text string `json:"text"`
}

var registerCut = sync.OnceFunc(func() { toxics.Register("cut", new(cut)) })

// Pipe hands on what comes until the text does, in one piece.
func (c *cut) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil || bytes.Contains(chunk.Data, []byte(c.Text)) {
				stub.Close()
				return
			}
			stub.Output <- chunk
		}
	}
}
