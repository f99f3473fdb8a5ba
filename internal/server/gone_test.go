package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/server"
)

// h2 is a client that speaks HTTP/2 without TLS.
func h2(t *testing.T) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestGone has clients go in the middle of bodies over HTTP/2: the server serves on.
func TestGone(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	c := h2(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				ctx, cancel := context.WithCancel(t.Context())
				read, write := io.Pipe()
				go func() {
					_, _ = io.WriteString(write, strings.Repeat(bar("A", 0, 1), 50))
					cancel()
					_ = write.CloseWithError(errors.New("gone"))
				}()
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/bars", read)
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/x-ndjson")
				if resp, err := c.Do(r); err == nil {
					_ = resp.Body.Close()
				}
				_ = read.Close()
			}
		})
	}
	wg.Wait()
	if a := w.post(t, "/v1/bars", bar("B", 0, 1)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestRefusalsAreRead has who sends a large body that is refused see why, over either HTTP.
func TestRefusalsAreRead(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	body := []byte(strings.Repeat(bar("A", 0, 1), 60_000)) // 6 MB
	for name, c := range map[string]*http.Client{"HTTP/1.1": w.client, "HTTP/2": h2(t)} {
		for range 10 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/bars", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "image/png")
			resp, err := c.Do(r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			text, err := io.ReadAll(resp.Body)
			if _ = resp.Body.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			var p client.Problem
			answer{status: resp.StatusCode, body: string(text)}.into(t, http.StatusUnsupportedMediaType, &p)
			if p.Code != "unsupported_media_type" {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}
