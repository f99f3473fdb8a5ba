package mds

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// KeptAnswer is what a store keeps of a request that carried an idempotency key, once it has
// its final answer: the same request with the same key is answered with it, and changes
// nothing, whatever others have written since. See [AnswersKeptFor].
type KeptAnswer struct {
	// Key is what the client has chosen, one of its tenant's; see [ValidIdempotencyKey].
	Key string
	// Operation is what was asked for, for people: such as "POST /v1/bars".
	Operation string
	// HeadSHA256 is of all that was asked for but the body, and BodySHA256 of the body as it
	// came. Requests are the same where both are.
	HeadSHA256, BodySHA256 [sha256.Size]byte
	// Status is that of the answer, as in HTTP.
	Status int
	// Body is that of the answer: 1 to [MaxKeptBody] bytes.
	Body []byte
	// At is when the request ended. UTC, to the microsecond.
	At time.Time
}

// AnswersKeptFor is how long answers are kept. Older ones are not found, and are removed as
// others are kept.
const AnswersKeptFor = 24 * time.Hour

// MaxKeptBody is the most bytes of the body of an answer that is kept.
const MaxKeptBody = 256 << 10

// MaxIdempotencyKey is the most bytes of an idempotency key.
const MaxIdempotencyKey = 255

// ValidIdempotencyKey reports whether a text may be an idempotency key: it is of visible
// ASCII characters.
func ValidIdempotencyKey(key string) bool {
	return key != "" && len(key) <= MaxIdempotencyKey && !strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' })
}

// Validate reports every fault, as an [*InvalidError].
func (a *KeptAnswer) Validate() error {
	var f faults
	if !ValidIdempotencyKey(a.Key) {
		f.add("key", fmt.Sprintf("%s is not 1 to %d visible ASCII characters", quoted(a.Key), MaxIdempotencyKey))
	}
	f.add("operation", textFault(a.Operation, MaxIdempotencyKey))
	if a.Status < 100 || a.Status > 599 {
		f.add("status", fmt.Sprintf("%d is none", a.Status))
	}
	if n := len(a.Body); n == 0 || n > MaxKeptBody {
		f.add("body", fmt.Sprintf("has %d bytes, and 1 to %d are kept", n, MaxKeptBody))
	}
	f.add("at", timeFault(a.At))
	return f.err()
}
