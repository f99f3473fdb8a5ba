package apikey

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// shelf is a source that is told what to do.
type shelf struct {
	mu    sync.Mutex
	keys  []mds.APIKey
	err   error
	takes time.Duration
	reads atomic.Int64
}

func (s *shelf) APIKeys(ctx context.Context) ([]mds.APIKey, error) {
	s.reads.Add(1)
	s.mu.Lock()
	keys, err, takes := append([]mds.APIKey(nil), s.keys...), s.err, s.takes
	s.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return keys, err
}

// add makes a key and returns its token.
func (s *shelf) add(change func(*mds.APIKey)) (token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, key := New(time.Now())
	key.Tenant, key.Scopes = mds.DefaultTenant(), []mds.Scope{mds.ScopeRead, mds.ScopeWrite}
	if change != nil {
		change(&key)
	}
	s.keys = append(s.keys, key)
	return t.Reveal()
}

func (s *shelf) change(change func(s *shelf)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// check presents a token, which has to be refused for a reason, or taken where it is nil.
func check(t *testing.T, a *Authenticator, token string, want error) {
	t.Helper()
	id, err := a.Authenticate(ctx, token, time.Now())
	if !errors.Is(err, want) {
		t.Errorf("%v; want %v", err, want)
	}
	if (err == nil) != (id.KeyID != "") {
		t.Errorf("%v, and it is %+v", err, id)
	}
	if err != nil && strings.Contains(err.Error(), token[17:60]) {
		t.Errorf("the secret is in %v", err)
	}
}

func unavailable(t *testing.T, a *Authenticator, token string) {
	t.Helper()
	_, err := a.Authenticate(ctx, token, time.Now())
	if !mds.Unavailable(err) || !mds.Retryable(err) || !errors.Is(err, errDown) {
		t.Errorf("%v; want that the keys cannot be read", err)
	}
}

var errDown = errors.New("the server is down")

func TestAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		good := s.add(nil)
		ends := s.add(func(k *mds.APIKey) { k.Expires = time.Now().Add(time.Hour) })
		expired := s.add(func(k *mds.APIKey) { k.Expires = time.Now() })
		revoked := s.add(func(k *mds.APIKey) { k.Revoked = time.Now() })
		a := NewAuthenticator(s, Config{})
		id, err := a.Authenticate(ctx, good, time.Now())
		if err != nil || id.Tenant != mds.DefaultTenant() || id.KeyID != good[4:16] || !id.May(mds.ScopeRead) || !id.May(mds.ScopeWrite) || id.May(mds.ScopeAdmin) {
			t.Errorf("%+v, %v", id, err)
		}
		check(t, a, expired, ErrExpired)
		check(t, a, revoked, ErrRevoked)
		check(t, a, good[:66]+"!", ErrMalformed)
		stranger, _ := New(now)
		check(t, a, stranger.Reveal(), ErrUnknown)
		// Who has not the secret learns nothing of a key, whatever its state.
		for _, token := range []string{good, expired, revoked} {
			guess := stranger
			guess.id = token[4:16]
			check(t, a, guess.Reveal(), ErrUnknown)
		}
		check(t, a, ends, nil)
		if _, err := a.Authenticate(ctx, ends, time.Now().Add(time.Hour-time.Nanosecond)); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		if _, err := a.Authenticate(ctx, ends, time.Now().Add(time.Hour)); !errors.Is(err, ErrExpired) {
			t.Errorf("at its end: %v", err)
		}
		if n := s.reads.Load(); n != 1 {
			t.Errorf("the store was read %d times", n)
		}
	})
}

// TestRevokedWithinRefresh has a key revoked, and another one made, while an authenticator
// runs.
func TestRevokedWithinRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		token := s.add(nil)
		a := NewAuthenticator(s, Config{})
		check(t, a, token, nil)
		s.change(func(s *shelf) { s.keys[0].Revoked = time.Now() })
		fresh := s.add(nil)
		<-time.After(time.Second - time.Nanosecond)
		check(t, a, token, nil) // it is what it had read
		check(t, a, fresh, ErrUnknown)
		<-time.After(time.Nanosecond)
		check(t, a, token, ErrRevoked)
		check(t, a, fresh, nil)
		if n := s.reads.Load(); n != 2 {
			t.Errorf("the store was read %d times", n)
		}
	})
}

// TestReadsOnceASecond presents a hundred unknown tokens every ten milliseconds for ten
// seconds, all at once, while a read takes a tenth of a second.
func TestReadsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{takes: 100 * time.Millisecond}
		s.add(nil)
		a := NewAuthenticator(s, Config{})
		var wg sync.WaitGroup
		for range 1000 {
			for range 10 {
				stranger, _ := New(now)
				wg.Go(func() { check(t, a, stranger.Reveal(), ErrUnknown) })
			}
			<-time.After(10 * time.Millisecond)
		}
		wg.Wait()
		if n := s.reads.Load(); n != 10 {
			t.Errorf("the store was read %d times in ten seconds", n)
		}
		if n := len(a.held.byID); n != 1 {
			t.Errorf("it holds %d keys", n)
		}
	})
}

// TestOutage has a store that cannot be reached: what was read works for a minute, and what
// was not known then is told from what is unknown.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		token := s.add(nil)
		ends := s.add(func(k *mds.APIKey) { k.Expires = time.Now().Add(30 * time.Second) })
		revoked := s.add(func(k *mds.APIKey) { k.Revoked = time.Now() })
		a := NewAuthenticator(s, Config{})
		check(t, a, token, nil)
		s.change(func(s *shelf) { s.err = errDown })
		late := s.add(nil)
		guess, _ := New(now)
		guess.id = token[4:16]
		for range 59 {
			<-time.After(time.Second)
			check(t, a, token, nil)
			check(t, a, revoked, ErrRevoked)
			check(t, a, guess.Reveal(), ErrUnknown)
			unavailable(t, a, late)
		}
		check(t, a, ends, ErrExpired)
		if n := s.reads.Load(); n != 60 {
			t.Errorf("the store was read %d times in a minute", n)
		}
		<-time.After(time.Second + time.Nanosecond)
		unavailable(t, a, token)
		unavailable(t, a, revoked)
		s.change(func(s *shelf) { s.err = nil })
		<-time.After(time.Second)
		check(t, a, token, nil)
		check(t, a, late, nil)
	})
}

func TestNeverReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{err: errDown}
		token := s.add(nil)
		a := NewAuthenticator(s, Config{})
		unavailable(t, a, token)
		check(t, a, token[:66]+"!", ErrMalformed) // which takes no store
		none := NewAuthenticator(s, Config{Outage: -1})
		s.change(func(s *shelf) { s.err = nil })
		check(t, none, token, nil)
		s.change(func(s *shelf) { s.err = errDown })
		<-time.After(time.Second)
		unavailable(t, none, token)
	})
}

// TestHangs has a store that does not answer: who waits does so for no longer than the read
// may take, and not again until it is asked again.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		token := s.add(nil)
		a := NewAuthenticator(s, Config{})
		check(t, a, token, nil)
		s.change(func(s *shelf) { s.takes = time.Hour })
		<-time.After(time.Second)
		began := time.Now()
		check(t, a, token, nil)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %v", took)
		}
		check(t, a, token, nil)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("with the next one it took %v", took)
		}
	})
}

// TestCancelled has somebody go away who began a read: the others get what it reads.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{takes: time.Second}
		token := s.add(nil)
		a := NewAuthenticator(s, Config{})
		leaving, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := a.Authenticate(leaving, token, time.Now()); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { check(t, a, token, nil) })
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := s.reads.Load(); n != 1 {
			t.Errorf("the store was read %d times", n)
		}
	})
}

// TestChanged has what was made and revoked count for the next token, also where a read is under
// way that began before, and not older keys where they cannot be read.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		token := s.add(nil)
		a := NewAuthenticator(s, Config{Refresh: time.Hour})
		check(t, a, token, nil)
		fresh := s.add(nil)
		check(t, a, fresh, ErrUnknown)
		a.Changed()
		check(t, a, fresh, nil)

		s.change(func(s *shelf) { s.takes = time.Second })
		a.Changed()
		var wg sync.WaitGroup
		wg.Go(func() { check(t, a, token, ErrRevoked) }) // it still waits
		synctest.Wait()
		s.change(func(s *shelf) { s.keys[0].Revoked = time.Now() })
		a.Changed()
		check(t, a, token, ErrRevoked)
		wg.Wait()

		s.change(func(s *shelf) { s.keys[1].Revoked, s.err, s.takes = time.Now(), errDown, 0 })
		a.Changed()
		unavailable(t, a, fresh)
		reads := s.reads.Load()
		unavailable(t, a, fresh)
		if n := s.reads.Load(); n != reads {
			t.Errorf("a store that is away is asked by each request")
		}
		s.change(func(s *shelf) { s.err = nil })
		<-time.After(time.Hour)
		check(t, a, fresh, ErrRevoked)
	})
}
