package client_test

import (
	"errors"
	"fmt"
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
				most := "10000"
				if r.Header.Get("Idempotency-Key") != "" { // of which the parameters have to stay the same
					most = ""
				}
				if r.URL.Query().Get("max_errors") != most {
					t.Errorf("asked for %s", r.URL)
				}
				_, _ = io.WriteString(w, `{"kind":"news",`+tt.answer+"}")
			}))
			defer s.Close()
			c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.TableOf[mds.News](c).WriteOnce(t.Context(), mds.Tenant{}, "k", batch); err == nil {
				t.Error("under a key none is refused")
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

// TestRefusedInHalves finds them also where the batch was too large for one request.
func TestRefusedInHalves(t *testing.T) {
	const refused = `{"record":{"vendor":"v","symbol":"S","timeframe":"1m","ts":"2023-11-14T22:%s:00Z","close":%d},"reason":"no"}`
	requests := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch requests++; requests {
		case 1:
			refuse(w, http.StatusRequestEntityTooLarge, "body_too_large")
		case 2:
			fmt.Fprintf(w, `{"kind":"bars","read":2,"accepted":2,"committed":1,"dead_lettered":1,"refused":[`+refused+"]}", "14", 1)
		default:
			fmt.Fprintf(w, `{"kind":"bars","read":2,"accepted":2,"committed":1,"dead_lettered":1,"refused":[`+refused+"]}", "16", 3)
		}
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.TableOf[mds.Bar](c).WriteBatch(t.Context(), mds.Tenant{}, minutes(4))
	var named *mds.RefusedError
	if !errors.As(err, &named) || len(named.Records) != 2 || named.Records[0].Index != 1 || named.Records[1].Index != 3 {
		t.Errorf("%+v, %v", named, err)
	}
}
