// Package apikey makes, reads and checks the tokens of API keys.
//
// A token is what the holder of a key has, and is shown once:
//
//	mds_ID_SECRET_CHECKSUM
//
// ID names the key and is public: 12 characters of Crockford's base 32. SECRET is 32 random
// bytes in base 62, 43 characters. CHECKSUM is the CRC-32 (IEEE 802.3) of all that stands
// before the last underscore, in base 62, 6 characters, as at the end of GitHub's tokens
// («Behind GitHub's new authentication token formats», 2021): a typo is told without a look
// at the store, and who scans for leaked secrets knows one when it sees one:
//
//	mds_[0-9a-hjkmnp-tv-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}
//
// A store keeps the SHA-256 of the secret only; see [mds.APIKey].
package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

const (
	prefix         = "mds_"
	secretLength   = 43 // 62⁴³ > 2²⁵⁶
	checksumLength = 6  // 62⁶ > 2³²

	// signed is what the checksum is of.
	signed      = len(prefix) + mds.KeyIDLength + 1 + secretLength
	tokenLength = signed + 1 + checksumLength
)

// ErrMalformed is wrapped by the refusal of a text that is no token. Its message does not
// repeat the text.
var ErrMalformed = errors.New("malformed API key")

// Token is a key as its holder has it. It is written as its id alone, however it is
// printed; [Token.Reveal] is the whole.
type Token struct {
	id     string
	secret [sha256.Size]byte
}

// New makes a token, and what a store keeps of it: the key is made now, and has no tenant,
// name, scopes and end yet.
func New(now time.Time) (Token, mds.APIKey) {
	var t Token
	var id [mds.KeyIDLength]byte
	_, _ = rand.Read(id[:]) // it does not fail
	_, _ = rand.Read(t.secret[:])
	for i := range id {
		id[i] = mds.KeyIDAlphabet[id[i]%32]
	}
	t.id = string(id[:])
	return t, mds.APIKey{ID: t.id, Created: now.UTC().Truncate(time.Microsecond), SecretSHA256: t.Hash()}
}

// Parse reads a token. The error wraps [ErrMalformed].
func Parse(text string) (Token, error) {
	if len(text) != tokenLength {
		return Token{}, fmt.Errorf("%w: it has %d characters, and one has %d", ErrMalformed, len(text), tokenLength)
	}
	id, secret, sum := text[len(prefix):len(prefix)+mds.KeyIDLength], text[signed-secretLength:signed], text[signed+1:]
	if text[:len(prefix)] != prefix || text[signed-secretLength-1] != '_' || text[signed] != '_' {
		return Token{}, fmt.Errorf("%w: one is mds_ID_SECRET_CHECKSUM", ErrMalformed)
	}
	if sum != checksum(text[:signed]) {
		return Token{}, fmt.Errorf("%w: its checksum does not fit, so that a character of it is not as it was", ErrMalformed)
	}
	t := Token{id: id}
	n, ok := parse62(secret)
	if !ok || n.BitLen() > 8*len(t.secret) || !mds.ValidKeyID(id) {
		return Token{}, fmt.Errorf("%w: no store has made it", ErrMalformed)
	}
	n.FillBytes(t.secret[:])
	return t, nil
}

// ID is the public part.
func (t Token) ID() string { return t.id }

// Reveal is the token as its holder has it.
func (t Token) Reveal() string {
	text := prefix + t.id + "_" + format62(new(big.Int).SetBytes(t.secret[:]), secretLength)
	return text + "_" + checksum(text)
}

// Hash is the SHA-256 of the secret.
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256(t.secret[:]) }

// Verify reports whether a hash is that of the secret, in a time that does not depend on
// either.
func (t Token) Verify(hash [sha256.Size]byte) bool {
	own := t.Hash()
	return subtle.ConstantTimeCompare(own[:], hash[:]) == 1
}

// String is the token without its secret.
func (t Token) String() string { return prefix + t.id + "_…" }

// Format writes the token without its secret, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

const digits62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var base62 = big.NewInt(int64(len(digits62)))

// format62 writes a number that has at most so many digits, with zeros before it.
func format62(n *big.Int, length int) string {
	text := make([]byte, length)
	digit := new(big.Int)
	for i := length - 1; i >= 0; i-- {
		n.DivMod(n, base62, digit)
		text[i] = digits62[digit.Int64()]
	}
	return string(text)
}

func parse62(text string) (n *big.Int, ok bool) {
	n = new(big.Int)
	for _, c := range []byte(text) {
		digit := strings.IndexByte(digits62, c)
		if digit < 0 {
			return nil, false
		}
		n.Add(n.Mul(n, base62), big.NewInt(int64(digit)))
	}
	return n, true
}

func checksum(text string) string {
	return format62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), checksumLength)
}
