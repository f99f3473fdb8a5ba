package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

const (
	notebook = "https://notebook.example.com"
	stranger = "https://evil.example.com"
)

// corsHeaders are the headers of an answer that tell a browser what a page may do.
func corsHeaders(a answer) string {
	var b strings.Builder
	for _, name := range []string{"Allow-Origin", "Allow-Methods", "Allow-Headers", "Allow-Private-Network", "Allow-Credentials", "Expose-Headers", "Max-Age"} {
		if values, ok := a.header["Access-Control-"+name]; ok {
			b.WriteString(name + ": " + strings.Join(values, "; ") + "\n")
		}
	}
	return b.String()
}

// TestPagesOfBrowsers has pages of the origins that are set use the server, and no others.
func TestPagesOfBrowsers(t *testing.T) {
	open := serve(t, "duckdb://"+t.TempDir(), server.Config{Origins: []string{notebook, "http://localhost:3000"}, Hosts: []string{"127.0.0.1"}})
	closed := serve(t, "duckdb://"+t.TempDir(), server.Config{Hosts: []string{"127.0.0.1"}})
	keys := func() *world {
		st, err := store.Open(context.Background(), "duckdb://"+t.TempDir(), store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return serve(t, "", server.Config{Origins: []string{"*"}, Keys: apikey.NewAuthenticator(st, apikey.Config{})}, st)
	}()
	preflight := func(origin, method, headers string) []string {
		return []string{"Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers, "Access-Control-Request-Private-Network", "true"}
	}
	page := func(origin string) []string {
		return []string{"Origin", origin, "Sec-Fetch-Site", "cross-site", "Content-Type", "application/x-ndjson"}
	}
	const exposed = "Expose-Headers: Mds-Next-Cursor, X-Request-Id, Retry-After, Idempotency-Replayed, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin\n"
	for _, tt := range []struct {
		name           string
		w              *world
		method, path   string
		headers        []string
		status         int
		code           string
		cors           string
		varies, stored bool
	}{
		{"preflight of one that may", open, "OPTIONS", "/v1/bars", preflight(notebook, "POST", "authorization,content-type,idempotency-key"), 204, "",
			"Allow-Origin: " + notebook + "\nAllow-Methods: POST\nAllow-Headers: authorization,content-type,idempotency-key\nAllow-Private-Network: true\nMax-Age: 600\n", true, false},
		{"preflight of gRPC-Web", open, "OPTIONS", "/mds.feedback.v1.FeedbackService/Watch", preflight(notebook, "POST", "content-type,grpc-timeout,x-grpc-web,x-user-agent"), 204, "",
			"Allow-Origin: " + notebook + "\nAllow-Methods: POST\nAllow-Headers: content-type,grpc-timeout,x-grpc-web,x-user-agent\nAllow-Private-Network: true\nMax-Age: 600\n", true, false},
		{"preflight of Connect", open, "OPTIONS", "/mds.feedback.v1.FeedbackService/Watch", preflight(notebook, "POST", "connect-protocol-version,connect-timeout-ms,content-type"), 204, "",
			"Allow-Origin: " + notebook + "\nAllow-Methods: POST\nAllow-Headers: connect-protocol-version,connect-timeout-ms,content-type\nAllow-Private-Network: true\nMax-Age: 600\n", true, false},
		{"preflight of another", open, "OPTIONS", "/v1/bars", preflight(stranger, "POST", "content-type"), 204, "", "", true, false},
		{"preflight for a method that nothing has", open, "OPTIONS", "/v1/bars", preflight(notebook, "PATCH", ""), 204, "", "", true, false},
		{"preflight for a header that nothing reads", open, "OPTIONS", "/v1/bars", preflight(notebook, "POST", "x-forwarded-for"), 204, "", "", true, false},
		{"preflight where none may", closed, "OPTIONS", "/v1/bars", preflight(notebook, "POST", "content-type"), 405, "", "", false, false},
		{"reading by one that may", open, "GET", "/v1/bars/series", page(notebook), 200, "", "Allow-Origin: " + notebook + "\n" + exposed, true, false},
		{"reading by the other that may", open, "GET", "/v1/bars/series", page("http://localhost:3000"), 200, "", "Allow-Origin: http://localhost:3000\n" + exposed, true, false},
		{"reading by another", open, "GET", "/v1/bars/series", page(stranger), 200, "", "", true, false},
		{"reading by one with another port", open, "GET", "/v1/bars/series", page(notebook + ":8443"), 200, "", "", true, false},
		{"reading by no page", open, "GET", "/v1/bars/series", nil, 200, "", "", true, false},
		{"reading where none may", closed, "GET", "/v1/bars/series", page(notebook), 200, "", "", false, false},
		{"an error for one that may", open, "GET", "/v1/bars?x=1", page(notebook), 400, "bad_parameter", "Allow-Origin: " + notebook + "\n" + exposed, true, false},
		{"sending by one that may", open, "POST", "/v1/bars", page(notebook), 200, "", "Allow-Origin: " + notebook + "\n" + exposed, true, true},
		{"sending by another", open, "POST", "/v1/bars", page(stranger), 403, "cross_origin", "", true, false},
		{"sending where none may", closed, "POST", "/v1/bars", page(notebook), 403, "cross_origin", "", false, false},
		{"sending to a name that is not the server's", open, "POST", "/v1/bars", append(page(notebook), "Host", "evil.example.com"), 421, "wrong_host", "Allow-Origin: " + notebook + "\n" + exposed, true, false},
		{"sending by any with keys, without one", keys, "POST", "/v1/bars", page(stranger), 401, "no_key", "Allow-Origin: *\n" + exposed, true, false},
		{"preflight by any with keys", keys, "OPTIONS", "/v1/bars", preflight(stranger, "POST", "authorization"), 204, "", "Allow-Origin: *\nAllow-Methods: POST\nAllow-Headers: authorization\nMax-Age: 600\n", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			symbol := strings.ToUpper(strings.ReplaceAll(tt.name, " ", "-"))
			body := ""
			if tt.method == http.MethodPost {
				body = bar(symbol, 1, 1)
			}
			a := tt.w.ask(t, tt.method, tt.path, strings.NewReader(body), tt.headers...)
			if a.status != tt.status || corsHeaders(a) != tt.cors {
				t.Errorf("%d\n%swant %d\n%s%s", a.status, corsHeaders(a), tt.status, tt.cors, a.body)
			}
			if tt.code != "" {
				a.problem(t, tt.status, tt.code, "")
			}
			if varies := strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Origin"); varies != tt.varies {
				t.Errorf("Vary is %q", a.header.Values("Vary"))
			}
			if series := tt.w.get(t, "/v1/bars/series"); strings.Contains(series.body, symbol) != tt.stored {
				t.Errorf("stored are %s", series.body)
			}
		})
	}
}

// TestAnyPageNeedsKeys: a server that asks for none lets no page in that is not named.
func TestAnyPageNeedsKeys(t *testing.T) {
	st, err := store.Open(t.Context(), "duckdb://"+t.TempDir(), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, err = server.New(t.Context(), server.Config{Store: st, Origins: []string{"*"}})
	if err == nil || err.Error() != "pages of any origin may not use a server that asks for no keys: name the origins" {
		t.Error(err)
	}
}
