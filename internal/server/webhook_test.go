package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/internal/server"
)

// TestWebhookAway has an endpoint that never answers keep neither records nor the end waiting.
func TestWebhookAway(t *testing.T) {
	asked := make(chan struct{}, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server sees that a client goes when it has read all
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer hook.Close()
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Webhook: &feedback.WebhookConfig{URL: hook.URL, Timeout: time.Hour}})
	<-asked
	if a := w.post(t, "/v1/bars", bar("A", 0, 1)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.stop()
	select {
	case err := <-w.ended:
		w.ended <- err
	case <-time.After(15 * time.Second): // it may drain for thirty
		t.Error("the server waits for the endpoint")
	}
	if logs := w.logs.String(); strings.Contains(logs, hook.URL) {
		t.Errorf("the URL is in the log: %s", logs)
	}
}
