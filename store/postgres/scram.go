package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"golang.org/x/text/secure/precis"
)

// scramSecret is what the server keeps of a password (PostgreSQL, "pg_authid":
// SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey; RFC 5802, section 3), with the
// iterations and the length of the salt that it uses itself.
func scramSecret(password string) (string, error) {
	const iterations, saltBytes = 4096, 16
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // it never fails
	return scram(password, salt, iterations)
}

func scram(password string, salt []byte, iterations int) (string, error) {
	if normal, err := precis.OpaqueString.String(password); err == nil { // as the driver does
		password = normal
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, text(salt), text(stored[:]), text(mac("Server Key"))), nil
}
