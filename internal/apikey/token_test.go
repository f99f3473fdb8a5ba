package apikey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 123_456_789, time.UTC)

// TestKnownToken has a token, its parts and its hash as Python works them out:
//
//	import binascii, hashlib
//	D = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
//	def b62(n, w): return (b62(n // 62, w - 1) if w > 1 else "") + D[n % 62]
//	secret = bytes(range(1, 33))
//	body = "mds_0123456789ab_" + b62(int.from_bytes(secret, "big"), 43)
//	print(body + "_" + b62(binascii.crc32(body.encode()), 6), hashlib.sha256(secret).hexdigest())
func TestKnownToken(t *testing.T) {
	token, err := Parse(known)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", token.Hash()); token.ID() != "0123456789ab" || got != knownHash {
		t.Errorf("id %s, hash %s", token.ID(), got)
	}
	if token.Reveal() != known {
		t.Errorf("it is revealed as %s", token.Reveal())
	}
}

// scanned is what scanners look for, as the package says.
var scanned = regexp.MustCompile(`^mds_[0-9a-hjkmnp-tv-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$`)

func TestThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var token Token
		copy(token.secret[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		token.id = rapid.StringOfN(rapid.RuneFrom([]rune(mds.KeyIDAlphabet)), 12, 12, -1).Draw(t, "id")
		text := token.Reveal()
		if got, err := Parse(text); err != nil || got.id != token.id || got.secret != token.secret {
			t.Fatalf("%s comes back as %s, %v", text, got.Reveal(), err)
		}
		if !scanned.MatchString(text) {
			t.Fatalf("a scanner does not find %s", text)
		}
	})
}

// TestEveryTypo changes each character of a token into each other one, drops each, doubles
// each, and swaps each with the next: none is taken for a token.
func TestEveryTypo(t *testing.T) {
	token, _ := New(now)
	text := token.Reveal()
	refused := func(typo string) {
		t.Helper()
		if typo == text {
			return
		}
		if _, err := Parse(typo); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%s for %s: %v", typo, text, err)
		}
	}
	for i := range len(text) {
		for c := range 256 {
			refused(text[:i] + string([]byte{byte(c)}) + text[i+1:])
		}
		refused(text[:i] + text[i+1:])
		refused(text[:i] + text[i:i+1] + text[i:])
		if i+1 < len(text) {
			refused(text[:i] + text[i+1:i+2] + text[i:i+1] + text[i+2:])
		}
	}
}

// TestMalformed has what is wrong with a text told, without the text.
func TestMalformed(t *testing.T) {
	token, _ := New(now)
	text := token.Reveal()
	forge := func(body string) string { return body + "_" + checksum(body) }
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "it has 0 characters, and one has 67"},
		{"cut", text[:66], "it has 66 characters, and one has 67"},
		{"a space", text + " ", "it has 68 characters, and one has 67"},
		{"another program's", "ghp" + text[3:], "one is mds_ID_SECRET_CHECKSUM"},
		{"a typo", text[:30] + "!" + text[31:], "its checksum does not fit, so that a character of it is not as it was"},
		{"an id that is none", forge("mds_ILOUILOUILOU" + text[16:60]), "no store has made it"},
		{"a secret that is too large", forge(text[:17] + strings.Repeat("z", 43)), "no store has made it"},
		{"a secret that is none", forge(text[:17] + strings.Repeat("-", 43)), "no store has made it"},
	} {
		_, err := Parse(c.text)
		if !errors.Is(err, ErrMalformed) || err.Error() != "malformed API key: "+c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestNeverPrinted prints a token in every way: the secret is in none.
func TestNeverPrinted(t *testing.T) {
	token, key := New(now)
	secret := token.Reveal()[17:60]
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U", "%T"} {
		fmt.Fprintf(&out, verb+"\n", token)
		fmt.Fprintf(&out, verb+"\n", &token)
		fmt.Fprintf(&out, verb+"\n", struct{ T any }{token})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("made", "token", token, "pointer", &token)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("made", "token", token, "pointer", &token)
	if err := json.NewEncoder(&out).Encode(map[string]any{"token": token, "key": key}); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{secret, fmt.Sprintf("%x", token.secret), fmt.Sprintf("%X", token.secret), fmt.Sprintf("%d", token.secret)} {
		if strings.Contains(out.String(), strings.Trim(what, "[]")) {
			t.Errorf("the secret is in\n%s", out.String())
		}
	}
	if !strings.Contains(out.String(), "mds_"+token.ID()+"_…") {
		t.Errorf("the id is not in\n%s", out.String())
	}
}

func TestNew(t *testing.T) {
	a, key := New(now)
	b, _ := New(now)
	if a.id == b.id || a.secret == b.secret {
		t.Error("two tokens are alike")
	}
	if key.ID != a.ID() || !key.Created.Equal(time.Date(2026, 11, 26, 12, 0, 0, 123_456_000, time.UTC)) {
		t.Errorf("the key of %s is %+v", a, key)
	}
	if !a.Verify(key.SecretSHA256) || b.Verify(key.SecretSHA256) || a.Verify([32]byte{}) {
		t.Error("a key is not its token's alone")
	}
}

const (
	known     = "mds_0123456789ab_0Eoh211G4c8wtVWM00my5rsNSFlKgaWqQ4mb8gdEqno_2KCGTj"
	knownHash = "ae216c2ef5247a3782c135efa279a3e4cdc61094270f5d2be58c6204b7a612c9"
)

// FuzzParse: whatever is taken for a token is one, letter by letter.
func FuzzParse(f *testing.F) {
	f.Add(known)
	f.Add(known[:66])
	f.Add("mds_000000000000_" + strings.Repeat("0", 43) + "_" + checksum("mds_000000000000_"+strings.Repeat("0", 43)))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err == nil && token.Reveal() != text {
			t.Errorf("%q is taken for %q", text, token.Reveal())
		}
		if err != nil && (!errors.Is(err, ErrMalformed) || len(text) > 20 && strings.Contains(err.Error(), text)) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
