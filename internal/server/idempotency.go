package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// The header with which a request is known again (draft-ietf-httpapi-idempotency-key-header),
// and the one of an answer that was given before.
const (
	idempotencyKey = "Idempotency-Key"
	replayed       = "Idempotency-Replayed"
)

func idempotencyParam() param {
	least, most := 1, mds.MaxIdempotencyKey
	return param{
		name: idempotencyKey, header: true,
		doc:    "A name of this request, new for each: sent again with the key it is answered as it was before, for a day, and changes nothing. Visible ASCII, bare or in quotes",
		schema: &huma.Schema{Type: huma.TypeString, MinLength: &least, MaxLength: &most},
	}
}

// replayedHeader describes the header of answers that were given before.
func replayedHeader() map[string]*huma.Param {
	return map[string]*huma.Param{replayed: {Description: "true where the answer is that of the request that came first with its key", Schema: &huma.Schema{Type: huma.TypeString}}}
}

// keyed is what a request with an idempotency key is known by.
type keyed struct {
	key  string
	head [sha256.Size]byte
	body hash.Hash // of what came of the body, as it came
}

// idempotencyKey reads the key of a request; "" where there is none.
func (c *call) idempotencyKey() (string, error) {
	given := c.r.Header.Values(idempotencyKey)
	if len(given) == 0 {
		return "", nil
	}
	key, ok := parseKey(given[0])
	if !ok || len(given) > 1 {
		return "", badRequest("bad_idempotency_key", fmt.Sprintf("%s %q: write one key of 1 to %d visible ASCII characters, bare or in quotes, such as a UUID", idempotencyKey, strings.Join(given, ", "), mds.MaxIdempotencyKey))
	}
	return key, nil
}

// keyed reads what a request with an idempotency key is known by; nil where it has none.
func (c *call) keyed() (*keyed, error) {
	key, err := c.idempotencyKey()
	if key == "" || err != nil {
		return nil, err
	}
	k := &keyed{key: key, body: sha256.New()}
	k.head = sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", c.operation(), c.values.Encode(), c.r.Header.Get("Content-Type"), c.r.Header.Get("Content-Encoding")))
	return k, nil
}

// operation names what is asked for.
func (c *call) operation() string { return c.r.Method + " " + c.r.URL.Path }

// parseKey reads a key as it is, or as a string of RFC 8941.
func parseKey(text string) (key string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return text, mds.ValidIdempotencyKey(text)
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), i == len(text)-1 && mds.ValidIdempotencyKey(b.String())
		case '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// known answers a request whose key has an answer already: with that one, or with a refusal
// where it was another request's. It reports whether there is one. The body is read to be
// compared, and not unpacked.
func (k *service[R]) known(c *call) (bool, error) {
	ctx, cancel := context.WithTimeout(c.Context(), k.cfg.CommitTimeout)
	defer cancel()
	kept, found, err := k.cfg.Store.KeptAnswer(ctx, c.tenant, c.again.key)
	switch {
	case err != nil && ctx.Err() != nil && c.Context().Err() == nil:
		return false, &problem{status: http.StatusServiceUnavailable, code: "store_unavailable", detail: "the store is not well; try again later", retry: 5 * time.Second, err: err}
	case err != nil || !found:
		return false, err
	}
	if kept.HeadSHA256 != c.again.head {
		return true, reused(c, &kept)
	}
	reading, stop := until(c.Context(), k.ended)
	defer stop()
	format, err := c.format()
	if err != nil {
		return true, err
	}
	raw := c.raw(reading, format, k.cfg.IdleTimeout, k.cfg.MaxBodyBytes, func() error { return nil })
	defer raw.Close() //nolint:errcheck // it was read, or has failed
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return true, err
	}
	return true, c.answer(&kept, true)
}

// answer answers with what is kept of the request's key, unless that is another request's.
// again says that it was given before.
func (c *call) answer(kept *mds.KeptAnswer, again bool) error {
	if kept.HeadSHA256 != c.again.head || !bytes.Equal(kept.BodySHA256[:], c.again.body.Sum(nil)) {
		return reused(c, kept)
	}
	if again {
		c.w.Header().Set(replayed, "true")
	}
	return c.document(kept.Status, kept.Body)
}

// reused refuses a request with the key of another.
func reused(c *call, kept *mds.KeptAnswer) error {
	what := "with another body"
	switch {
	case kept.Operation != c.operation():
		what = "for " + kept.Operation
	case kept.HeadSHA256 != c.again.head:
		what = "with other parameters, or another Content-Type or Content-Encoding"
	}
	return &problem{
		status: http.StatusUnprocessableEntity, code: "idempotency_key_reused",
		detail: fmt.Sprintf("the key %q was used %s before: send that request as it was, or this one with a key of its own", c.again.key, what),
	}
}

// keep keeps an answer, whose records are on the store's disk, and gives it: or the one that
// another request with the key has got meanwhile. One that cannot be kept is given all the
// same, with a warning: the same request then runs again.
func (k *service[R]) keep(c *call, a *client.Answer) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	answer := mds.KeptAnswer{
		Key: c.again.key, Operation: c.operation(), HeadSHA256: c.again.head, BodySHA256: [sha256.Size]byte(c.again.body.Sum(nil)),
		Status: http.StatusOK, Body: append(text, '\n'), At: time.Now().UTC().Truncate(time.Microsecond),
	}
	// The client may go; what it has sent is written.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), k.cfg.CommitTimeout)
	defer cancel()
	kept, err := k.cfg.Store.KeepAnswer(ctx, c.tenant, answer)
	if err != nil {
		k.cfg.Logger.Warn("an answer was not kept: the same request runs again", "request_id", c.id, "tenant", c.tenant.Slug, "error", err)
		if a.Warnings == nil {
			a.Warnings = make(map[string]int64)
		}
		a.Warnings["the answer could not be kept under its "+idempotencyKey+": the same request sent again is run again"]++
		return c.json(http.StatusOK, a)
	}
	return c.answer(&kept, false) // also where it is another's: this one did write
}

// refuseKey refuses a key where it would be of no use: what was removed, and written again
// since, would be removed again.
func refuseKey(c *call) error {
	if c.r.Method != http.MethodDelete || len(c.r.Header.Values(idempotencyKey)) == 0 {
		return nil
	}
	return badRequest("bad_idempotency_key", idempotencyKey+": keys are of POST; leave it out")
}

// refuseAccepted refuses a key where the answer comes before it is known how it ends.
func refuseAccepted(c *call) error {
	if c.again == nil || c.value("ack") != "accepted" {
		return nil
	}
	return badRequest("bad_parameter", "ack=accepted answers before the records are on the store's disk, and such an answer is not kept: leave out ack=accepted or "+idempotencyKey)
}
