package feedback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed post. The timestamp is when it was sent, in seconds since
// 1970-01-01 00:00 UTC, and the signature "sha256=" with the HMAC-SHA-256, in hexadecimal,
// of timestamp, "." and body.
const (
	TimestampHeader = "X-MDS-Timestamp"
	SignatureHeader = "X-MDS-Signature"
)

const signaturePrefix = "sha256="

// mac is the HMAC of a post.
func mac(secret []byte, timestamp string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(timestamp))
	h.Write([]byte("."))
	h.Write(body)
	return h.Sum(nil)
}

// sign sets the headers of a post. Without a secret only the timestamp is set.
func sign(header http.Header, secret []byte, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	header.Set(TimestampHeader, timestamp)
	if len(secret) > 0 {
		header.Set(SignatureHeader, signaturePrefix+hex.EncodeToString(mac(secret, timestamp, body)))
	}
}

// verify checks the headers of a post.
func verify(header http.Header, secret []byte, now time.Time, tolerance time.Duration, body []byte) error {
	timestamp := header.Get(TimestampHeader)
	given, ok := strings.CutPrefix(header.Get(SignatureHeader), signaturePrefix)
	if !ok {
		return errors.New(SignatureHeader + " is missing, or does not begin with " + signaturePrefix + ": sign the post with the receiver's secret")
	}
	sum, err := hex.DecodeString(given)
	if err != nil || !hmac.Equal(sum, mac(secret, timestamp, body)) {
		return errors.New(SignatureHeader + " is not that of this body and timestamp: sign it with the receiver's secret")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return errors.New(TimestampHeader + " is no number of seconds since 1970")
	}
	if sent := time.Unix(seconds, 0); sent.Before(now.Add(-tolerance)) || sent.After(now.Add(tolerance)) {
		return fmt.Errorf("%s is more than %v from the receiver's time: set the clocks, or send it anew", TimestampHeader, tolerance)
	}
	return nil
}
