package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// TestRefused finds the records that a server refuses in the batch that was sent, by what they
// hold; where the server does not account for all it says so of none.
func TestRefused(t *testing.T) {
	at := time.Date(2026, 1, 5, 14, 30, 0, 0, time.UTC)
	news := func(id, headline string) mds.News {
		return mds.News{Vendor: "v", ID: id, PublishedAt: at, Title: headline}
	}
	const twice = `{"record":{"vendor":"v","id":"2","published_at":"2026-01-05T14:30:00Z","title":"a \u003cb\u003e \u0026 c"},"reason":"no"}`
	batch := []mds.News{news("1", "first"), news("2", "a <b> & c"), news("3", "third"), news("2", "a <b> & c"), news("5", "fifth")}
	for name, tt := range map[string]struct {
		answer string
		want   []mds.RefusedRecord
	}{
		"two that are alike": {`"read":5,"accepted":5,"committed":3,"dead_lettered":2,"refused":[` + twice + "," + twice + "]", []mds.RefusedRecord{{Index: 1, Kept: true}, {Index: 3, Kept: true}}},
		"and one that is no record there": {
			`"read":5,"rejected":1,"accepted":4,"committed":3,"dead_lettered":1,"refused":[` + twice + `],"errors":[{"line":1,"reason":"no"}]`,
			[]mds.RefusedRecord{{Index: 0}, {Index: 1, Kept: true}},
		},
		"without dead letters":    {`"read":5,"accepted":5,"committed":4,"dropped":1,"refused":[` + twice + "]", []mds.RefusedRecord{{Index: 1}}},
		"not all are named":       {`"read":5,"accepted":5,"committed":3,"dead_lettered":2,"refused_omitted":1,"refused":[` + twice + "]", nil},
		"unwritten":               {`"read":5,"accepted":5,"committed":3,"dead_lettered":1,"unwritten":1,"refused":[` + twice + "]", nil},
		"one that nobody sent":    {`"read":5,"accepted":5,"committed":2,"dead_lettered":3,"refused":[` + twice + "," + twice + "," + twice + "]", nil},
		"one that cannot be read": {`"read":5,"accepted":5,"committed":4,"dead_lettered":1,"refused":[{"record":{"vendor":1},"reason":"no"}]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("max_errors") != "10000" {
					t.Errorf("asked for %s", r.URL)
				}
				_, _ = io.WriteString(w, `{"kind":"news",`+tt.answer+"}")
			}))
			defer s.Close()
			c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.TableOf[mds.News](c).WriteBatch(t.Context(), mds.Tenant{}, batch)
			var rejected *client.RejectedError
			var named *mds.RefusedError
			if !errors.As(err, &rejected) || errors.As(err, &named) != (tt.want != nil) {
				t.Fatal(err)
			}
			if named == nil {
				return
			}
			var got []mds.RefusedRecord
			for _, r := range named.Records {
				if r.Err.Error() != "no" {
					t.Error(r.Err)
				}
				got = append(got, mds.RefusedRecord{Index: r.Index, Kept: r.Kept})
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
