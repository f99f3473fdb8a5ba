package duckdb

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/marketdatastore/mds"
)

// The API keys of a store are a file of their own in its folder, so that they can be made
// and revoked while another process has the databases. It is replaced as a whole, by
// whoever holds the lock beside it; who reads needs no lock.
const (
	keyFileName  = "keys.json"
	keyLockName  = "keys.lock"
	keyDraftName = "keys.json.new"

	keyFileMode    = 0o600
	keyFileVersion = 2 // of one in which there is the scope metrics; of others 1
)

// keyFile is what the file holds.
type keyFile struct {
	Version int         `json:"version"`
	Keys    []keyInFile `json:"keys"`
}

type keyInFile struct {
	ID           string      `json:"id"`
	Tenant       string      `json:"tenant"`
	Name         string      `json:"name,omitempty"`
	Scopes       []mds.Scope `json:"scopes"`
	Created      time.Time   `json:"created"`
	Expires      time.Time   `json:"expires,omitzero"`
	Revoked      time.Time   `json:"revoked,omitzero"`
	SecretSHA256 string      `json:"secret_sha256"`
}

func (k *keyInFile) key() (mds.APIKey, error) {
	key := mds.APIKey{ID: k.ID, Name: k.Name, Scopes: k.Scopes, Created: k.Created, Expires: k.Expires, Revoked: k.Revoked}
	var err error
	if key.Tenant, err = mds.NewTenant(k.Tenant); err != nil {
		return key, err
	}
	hash, err := hex.DecodeString(k.SecretSHA256)
	if err != nil || copy(key.SecretSHA256[:], hash) != len(hash) || len(hash) != len(key.SecretSHA256) {
		return key, errors.New("secret_sha256: is no SHA-256 in hexadecimal digits")
	}
	return key, key.Validate()
}

// keyError says which file an error is about, and what to do about it.
func keyError(path string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: "open API keys", retry: true}
	var pathErr *os.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err, e.Hint = errDiskFull, "free some space and run it again: the keys are as they were"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Hint = "run it as the user whose file it is, and make the folder writable"
	}
	e.Err = fmt.Errorf("%s: %w", path, err)
	return e
}

func damagedKeys(path, format string, args ...any) error {
	return &Error{Op: "open API keys", Err: fmt.Errorf("%s is damaged: "+format, append([]any{path}, args...)...), Hint: "bring back a copy of it, or remove it and make the keys anew"}
}

// readKeys reads the keys of a folder. Where there is no file there are none.
func readKeys(dir string) ([]mds.APIKey, error) {
	path := filepath.Join(dir, keyFileName)
	f, err := os.Open(path) //nolint:gosec // in the folder of the store
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, keyError(path, err)
	}
	defer f.Close() //nolint:errcheck // it was read
	info, err := f.Stat()
	if err != nil {
		return nil, keyError(path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" { // which has other rights
		return nil, &Error{Op: "open API keys", Err: fmt.Errorf("%s may be read or written by others than its owner (mode %04o)", path, mode), Hint: "take that away: chmod 600 " + path}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, keyError(path, err)
	}
	return parseKeys(path, text)
}

func parseKeys(path string, text []byte) ([]mds.APIKey, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, damagedKeys(path, "%w", err)
	}
	if version.Version > keyFileVersion {
		return nil, &Error{Op: "open API keys", Err: fmt.Errorf("%s has version %d, and this mds knows up to %d", path, version.Version, keyFileVersion), Hint: "use a newer mds"}
	}
	var file keyFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, damagedKeys(path, "%w", err)
	}
	if file.Version < 1 {
		return nil, damagedKeys(path, "version %d is none", file.Version)
	}
	keys := make([]mds.APIKey, len(file.Keys))
	seen := make(map[string]bool, len(file.Keys))
	for i := range file.Keys {
		key, err := file.Keys[i].key()
		if err != nil {
			return nil, damagedKeys(path, "key %d: %w", i+1, err)
		}
		if seen[key.ID] {
			return nil, damagedKeys(path, "the key %s is there twice", key.ID)
		}
		seen[key.ID], keys[i] = true, key
	}
	return keys, nil
}

// heldKeys are the keys of a folder while nobody else changes them.
type heldKeys struct {
	dir  string
	lock *flock.Flock
	keys []mds.APIKey
}

// holdKeys waits for others who change the keys of a folder, and reads them.
func holdKeys(ctx context.Context, dir string) (*heldKeys, error) {
	path := filepath.Join(dir, keyLockName)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(keyFileMode))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		_ = lock.Close()
		if ctx.Err() != nil {
			return nil, wrap(ctx, "open API keys", err)
		}
		return nil, keyError(path, err)
	}
	keys, err := readKeys(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &heldKeys{dir, lock, keys}, nil
}

// release lets others change the keys.
func (h *heldKeys) release() { _ = h.lock.Close() } // nothing is written through it

// save puts keys in the place of those that are there. They are on the disk when it returns;
// wherever it ends, the file is the old one or the new.
func (h *heldKeys) save(keys []mds.APIKey) error {
	file := keyFile{Version: 1, Keys: make([]keyInFile, len(keys))}
	for i := range keys {
		k := &keys[i]
		if slices.Contains(k.Scopes, mds.ScopeMetrics) { // of which an mds of before knows nothing
			file.Version = keyFileVersion
		}
		file.Keys[i] = keyInFile{
			ID: k.ID, Tenant: k.Tenant.Slug, Name: k.Name, Scopes: k.Scopes,
			Created: k.Created, Expires: k.Expires, Revoked: k.Revoked, SecretSHA256: hex.EncodeToString(k.SecretSHA256[:]),
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	path, draft := filepath.Join(h.dir, keyFileName), filepath.Join(h.dir, keyDraftName)
	if err := writeDraft(draft, append(text, '\n')); err != nil {
		_ = os.Remove(draft)
		return keyError(path, err)
	}
	if err := os.Rename(draft, path); err != nil {
		return keyError(path, err)
	}
	h.keys = keys
	return keyError(path, syncFolder(h.dir))
}

// writeDraft writes a file that only its owner may read, whoever has left one of the name.
func writeDraft(path string, text []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, keyFileMode) //nolint:gosec // in the folder of the store
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncFolder brings the names in a folder to the disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
