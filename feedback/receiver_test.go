package feedback_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

const signedBody = `{"coordinator_id":"bars","queue_size":9,"capacity":10,"utilization":0.9,"level":"hard","source":"store","ts":946684800,"suggested_rate":0}`

// nonsense has no end.
type nonsense struct{ read int }

func (n *nonsense) Read(p []byte) (int, error) {
	n.read += len(p)
	return len(p), nil
}

func TestReceiver(t *testing.T) {
	const at = "946684800" // when the bubble's time begins
	endless := &nonsense{}
	for _, tt := range []struct {
		name      string
		method    string
		media     string
		timestamp string
		signature string
		body      io.Reader
		later     time.Duration // it arrives
		unsigned  bool          // the receiver has no secret
		status    int
		says      string
	}{
		{name: "good", status: 204},
		{name: "good, with a charset", media: "application/json; charset=utf-8", status: 204},
		{name: "in capitals", signature: "sha256=" + strings.ToUpper(signature[7:]), status: 204},
		{name: "just in time", later: 5 * time.Minute, status: 204},
		{name: "get", method: "GET", status: 405, says: "events are posted: use POST"},
		{name: "put", method: "PUT", status: 405, says: "events are posted: use POST"},
		{name: "a form", media: "application/x-www-form-urlencoded", status: 415, says: "events are JSON: send Content-Type: application/json"},
		{name: "no type", media: "-", status: 415, says: "events are JSON: send Content-Type: application/json"},
		{name: "too large", body: strings.NewReader(strings.Repeat(" ", 64<<10+1)), status: 413, says: "an event has at most 64 KiB"},
		{name: "endless", body: endless, status: 413, says: "an event has at most 64 KiB"},
		{name: "no signature", signature: "-", status: 401, says: "X-MDS-Signature is missing, or does not begin with sha256=: sign the post with the receiver's secret"},
		{name: "another hash", signature: "md5=00", status: 401, says: "X-MDS-Signature is missing, or does not begin with sha256=: sign the post with the receiver's secret"},
		{name: "a wrong digit", signature: signature[:len(signature)-1] + "c", status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "half of it", signature: signature[:39], status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "an empty one", signature: "sha256=", status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "no hexadecimal", signature: "sha256=zz", status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "another body", body: strings.NewReader(strings.Replace(signedBody, "hard", "soft", 1)), status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "another time", timestamp: "946684801", status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "no time", timestamp: "-", status: 401, says: "X-MDS-Signature is not that of this body and timestamp: sign it with the receiver's secret"},
		{name: "late", later: 5*time.Minute + time.Second, status: 401, says: "X-MDS-Timestamp is more than 5m0s from the receiver's time: set the clocks, or send it anew"},
		// Signed as testdata/signature.sh does it.
		{name: "early", timestamp: "946685101", signature: "sha256=7e09ef286e41c3973a05bf838f1e4508609e183a259d0ef7f34f7c8604bdc8cd", status: 401, says: "X-MDS-Timestamp is more than 5m0s from the receiver's time: set the clocks, or send it anew"},
		{name: "a signed time that is none", timestamp: "noon", signature: "sha256=872553b6e7f45d8715bba4db15877521a04859038b9f96d9800e79f4090dc223", status: 401, says: "X-MDS-Timestamp is no number of seconds since 1970"},
		{name: "unsigned", unsigned: true, signature: "-", timestamp: "-", status: 204},
		{name: "no event", unsigned: true, body: strings.NewReader(`{"level":"ok"}`), status: 400, says: "feedback event: coordinator_id is missing"},
		{name: "no JSON", unsigned: true, body: strings.NewReader(`level=ok`), status: 400, says: "feedback event: invalid character 'l' looking for beginning of value"},
		{name: "cut off", unsigned: true, body: io.MultiReader(strings.NewReader("{"), errReader{}), status: 400, says: "the body ended early: send it again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pass(tt.later)
				var got []feedback.Event
				cfg := feedback.ReceiverConfig{Secret: []byte("topsecret")}
				if tt.unsigned {
					cfg.Secret = nil
				}
				receiver, err := feedback.NewReceiver(cfg, func(e feedback.Event) { got = append(got, e) })
				if err != nil {
					t.Fatal(err)
				}
				or := func(s, otherwise string) string {
					return map[string]string{"": otherwise, "-": ""}[s] + strings.TrimPrefix(s, "-")
				}
				if tt.body == nil {
					tt.body = strings.NewReader(signedBody)
				}
				r := httptest.NewRequest(or(tt.method, "POST"), "/", tt.body)
				for name, value := range map[string]string{
					"Content-Type": or(tt.media, "application/json"), feedback.TimestampHeader: or(tt.timestamp, at), feedback.SignatureHeader: or(tt.signature, signature),
				} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
				w := httptest.NewRecorder()
				receiver.ServeHTTP(w, r)
				if says := strings.TrimSpace(w.Body.String()); w.Code != tt.status || says != tt.says {
					t.Errorf("%d %s", w.Code, says)
				}
				if (w.Code == 204) != (len(got) == 1) || len(got) == 1 && got[0] != event("hard") {
					t.Errorf("%d, and the function was called with %+v", w.Code, got)
				}
				if w.Code == 405 && w.Header().Get("Allow") != "POST" {
					t.Error("the method to use is not told")
				}
			})
		})
	}
	if endless.read > 1<<20 {
		t.Errorf("%d bytes were read of an endless body", endless.read)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestReceiverPanic: a function that panics fails that event, and is called with the next.
func TestReceiverPanic(t *testing.T) {
	n := 0
	var l logs
	receiver, err := feedback.NewReceiver(feedback.ReceiverConfig{Logger: l.logger()}, func(feedback.Event) {
		if n++; n == 1 {
			panic("oh no")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{http.StatusInternalServerError, http.StatusNoContent} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(signedBody))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		receiver.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if !strings.Contains(l.String(), "oh no") {
		t.Error(l.String())
	}
}

func TestReceiverConfig(t *testing.T) {
	if _, err := feedback.NewReceiver(feedback.ReceiverConfig{}, nil); err == nil || err.Error() != "feedback receiver: there is no function to hand events to" {
		t.Error(err)
	}
	if _, err := feedback.NewReceiver(feedback.ReceiverConfig{Tolerance: -time.Second}, func(feedback.Event) {}); err == nil || err.Error() != "feedback receiver: Tolerance is -1s: it must be 0, for the default, or more" {
		t.Error(err)
	}
}
