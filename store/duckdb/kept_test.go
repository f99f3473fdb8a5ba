package duckdb

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func keptAnswer(key string, ago time.Duration) mds.KeptAnswer {
	return mds.KeptAnswer{Key: key, Operation: "POST /v1/bars", Status: 200, Body: []byte("{}\n"), At: time.Now().Add(-ago)}
}

func keep(t *testing.T, s *Store, a mds.KeptAnswer) {
	t.Helper()
	if _, err := s.KeepAnswer(context.Background(), mds.DefaultTenant(), a); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateFromBeforeKeptAnswers opens a file as the version before has left it.
func TestMigrateFromBeforeKeptAnswers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	write(t, s, bars(10, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := raw(t, dir, "DROP TABLE kept_answers; DELETE FROM mds_migrations WHERE version = 6").Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	keep(t, s, keptAnswer("k", 0))
	if _, found, err := s.KeptAnswer(context.Background(), mds.DefaultTenant(), "k"); err != nil || !found {
		t.Errorf("%v, %v", found, err)
	}
	if n, err := NewTable[mds.Bar](s).Count(context.Background(), mds.DefaultTenant(), mds.Selection{}); err != nil || n != 10 {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestAnswersKeptTogether has answers that wait for the writer be kept in one transaction, but
// for those whose callers do not wait any more; ones that are too old go, a hundred and some at
// a time.
func TestAnswersKeptTogether(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	counts := func() (n, old int) {
		t.Helper()
		err := f.pool.Load().QueryRow("SELECT count(*), count(*) FILTER (WHERE kept_at <= ?) FROM kept_answers", tooOld()).Scan(&n, &old)
		if err != nil {
			t.Fatal(err)
		}
		return n, old
	}
	if err := f.lockWriter(ctx); err != nil {
		t.Fatal(err)
	}
	var old []mds.KeptAnswer
	for n := range 250 {
		old = append(old, keptAnswer(fmt.Sprint("old-", n), mds.AnswersKeptFor+time.Second))
	}
	if err := f.insertKept(ctx, old); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			if _, err := s.KeepAnswer(ctx, mds.DefaultTenant(), keptAnswer(fmt.Sprint("new-", n), 0)); err != nil {
				t.Error(err)
			}
		})
	}
	gone, cancel := context.WithCancel(ctx)
	all.Go(func() {
		if _, err := s.KeepAnswer(gone, mds.DefaultTenant(), keptAnswer("gone", 0)); err == nil {
			t.Error("it is kept of one who has gone")
		}
	})
	q := queueOf[mds.KeptAnswer](f, keptAnswers)
	waiting := func() int {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.waiting)
	}
	for tick := time.NewTicker(time.Millisecond); waiting() < 21; {
		<-tick.C
	}
	cancel()
	f.keepTogether(q.take())
	if n, old := counts(); n != 250-140+20 || old != 250-140 {
		t.Errorf("there are %d, %d of them too old", n, old)
	}
	f.unlockWriter()
	all.Wait()
	keep(t, s, keptAnswer("another", 0))
	keep(t, s, keptAnswer("one-more", 0))
	if n, old := counts(); n != 22 || old != 0 {
		t.Errorf("there are %d, %d of them too old", n, old)
	}
}
