package remote_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/marketdatastore/mds/store/remote"
)

// counting is a transport of a program's own.
type counting struct {
	http.RoundTripper
	requests int
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests++
	return c.RoundTripper.RoundTrip(r)
}

// TestOtherTransport goes through what a program has made http.DefaultTransport.
func TestOtherTransport(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer s.Close()
	before := http.DefaultTransport
	own := &counting{RoundTripper: before}
	http.DefaultTransport = own
	defer func() { http.DefaultTransport = before }()
	st, err := remote.Open(s.URL, remote.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Health(t.Context()); err != nil || own.requests != 1 {
		t.Errorf("%d requests, %v", own.requests, err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
