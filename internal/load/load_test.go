package load_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/load"
)

// memory is an intake that fails from the n-th record on.
type memory struct {
	failAt int
	bars   []mds.Bar
	calls  int
}

var errFull = errors.New("full")

func (m *memory) Submit(ctx context.Context, bars ...mds.Bar) (r ingest.Receipt[mds.Bar], err error) {
	m.calls++
	if m.failAt > 0 && len(m.bars)+len(bars) >= m.failAt {
		return r, errFull
	}
	m.bars = append(m.bars, bars...)
	return r, ctx.Err()
}

func csvFile(t *testing.T, name string, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("ts,close\n"+strings.Join(rows, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rows(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("2020-11-27T14:30:%02dZ,%d", i, i)
	}
	return out
}

// TestLargeRecordsGoInSmallParts: what is handed over is bounded in bytes, too.
func TestLargeRecordsGoInSmallParts(t *testing.T) {
	summary := strings.Repeat("x", 200<<10)
	var text strings.Builder
	for i := range 40 { // 8 MB
		fmt.Fprintf(&text, `{"id":"%d","published_at":"2024-01-02","title":"t","summary":"%s"}`+"\n", i, summary)
	}
	var parts parts[mds.News]
	_, err := load.Run(context.Background(), load.Config[mds.News]{
		Files: []string{"-"}, Stdin: strings.NewReader(text.String()), Rejects: load.NewRejects(filepath.Join(t.TempDir(), "rejects")), Intake: &parts,
	})
	if err != nil || fmt.Sprint(parts.sizes) != "[6 6 6 6 6 6 4]" {
		t.Errorf("parts of %v, %v", parts.sizes, err)
	}
}

// parts are the sizes of what is handed over.
type parts[R any] struct{ sizes []int }

func (p *parts[R]) Submit(_ context.Context, records ...R) (r ingest.Receipt[R], err error) {
	p.sizes = append(p.sizes, len(records))
	return r, nil
}

func run(ctx context.Context, t *testing.T, w *memory, change func(*load.Config[mds.Bar]), files ...string) (load.Result, *load.Rejects, error) {
	t.Helper()
	rejects := load.NewRejects(filepath.Join(t.TempDir(), "rejects"))
	cfg := load.Config[mds.Bar]{
		Files:          files,
		Options:        codec.Options{Fixed: map[string]string{"timeframe": "1s"}},
		SymbolFromFile: true,
		Rejects:        rejects,
		Intake:         w,
	}
	if change != nil {
		change(&cfg)
	}
	result, err := load.Run(ctx, cfg)
	n := int64(len(w.bars))
	l := result.Ledger.Settled(ingest.Ledger{Accepted: n, Receipt: mds.Receipt{Written: n}})
	if l.Read != l.Rejected+l.Accepted() || l.Accepted() != l.Written+l.Unwritten {
		t.Errorf("the ledger does not balance: %+v", l)
	}
	result.Ledger = l
	return result, rejects, errors.Join(err, rejects.Close())
}

func TestRecordsOfAllFiles(t *testing.T) {
	w := &memory{}
	result, rejects, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(50)...), csvFile(t, "B.csv.txt", rows(50)...))
	if err != nil || result.Ledger.Read != 100 || result.Ledger.Written != 100 || rejects.Path() != "" {
		t.Errorf("%+v, %v", result, err)
	}
	if w.bars[0].Symbol != "A" || w.bars[99].Symbol != "B" || w.bars[99].Close != 49 {
		t.Errorf("%+v and %+v", w.bars[0], w.bars[99])
	}
}

// TestHandedOverInSlices has records go over many at a time.
func TestHandedOverInSlices(t *testing.T) {
	lines := make([]string, 1750)
	for i := range lines {
		lines[i] = fmt.Sprintf("2020-11-27T%02d:%02d:%02dZ,1", i/3600, i/60%60, i%60)
	}
	w := &memory{}
	if _, _, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", lines...)); err != nil || w.calls < 4 || w.calls > 50 {
		t.Errorf("%d times, %v", w.calls, err)
	}
}

// TestWhatComesSlowlyDoesNotWait has rows of a pipe that stays open handed over.
func TestWhatComesSlowlyDoesNotWait(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := fmt.Fprint(w, "ts,close\n"+strings.Join(rows(6), "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	came := make(chan int, 1)
	var result load.Result
	result, err = load.Run(context.Background(), load.Config[mds.Bar]{
		Files: []string{"-"}, Stdin: r, Options: codec.Options{Fixed: map[string]string{"timeframe": "1s", "symbol": "A"}},
		Rejects: load.NewRejects(filepath.Join(t.TempDir(), "rejects")),
		Intake: intakeFunc(func(bars []mds.Bar) {
			came <- len(bars)
			w.Close() // only now the input ends
		}),
	})
	if err != nil || result.Ledger.Read != 6 || <-came != 6 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

type intakeFunc func([]mds.Bar)

func (f intakeFunc) Submit(_ context.Context, bars ...mds.Bar) (r ingest.Receipt[mds.Bar], err error) {
	f(bars)
	return r, nil
}

func TestWhatIsNotTakenOverIsUnwritten(t *testing.T) {
	w := &memory{failAt: 2}
	result, _, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(10)...))
	l := result.Ledger
	if !errors.Is(err, errFull) || l.Written != 0 || l.Read != 10 || l.Unwritten != 10 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestAWrongFileIsKnownBeforeTheFirstIsRead(t *testing.T) {
	w := &memory{}
	result, _, err := run(context.Background(), t, w, nil, csvFile(t, "A.csv", rows(10)...), "/nowhere.csv")
	var file *load.FileError
	if !errors.As(err, &file) || file.File != "/nowhere.csv" || result.Ledger.Read != 0 || len(w.bars) > 0 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

// countdown is a context that is cancelled after its state was asked for a
// number of times, which a load does before each row.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPipes are read once, from their beginning.
func TestPipes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "A")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err == nil {
			_, err = fmt.Fprint(w, "ts,close\n"+strings.Join(rows(50), "\n")+"\n")
			err = errors.Join(err, w.Close())
		}
		wrote <- err
	}()
	result, _, err := run(context.Background(), t, &memory{}, nil, pipe)
	if err := errors.Join(err, <-wrote); err != nil || result.Ledger.Written != 50 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

// TestAFailureAtTheEndIsTold, whatever ended the reading.
func TestAFailureAtTheEndIsTold(t *testing.T) {
	w := &memory{failAt: 2}
	result, _, err := run(&countdown{context.Background(), 6}, t, w, nil, csvFile(t, "A.csv", rows(10)...))
	if !errors.Is(err, errFull) || errors.Is(err, load.ErrInterrupted) || result.Ledger.Unwritten != 6 {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestCancelHandsOverWhatWasRead(t *testing.T) {
	w := &memory{}
	result, _, err := run(&countdown{context.Background(), 6}, t, w, nil, csvFile(t, "A.csv", rows(10)...))
	if !errors.Is(err, load.ErrInterrupted) || result.Ledger.Read != 6 || len(w.bars) != 6 {
		t.Errorf("%+v, %d bars, %v", result.Ledger, len(w.bars), err)
	}
}

// TestCancelEndsAReadThatBlocks has standard input stay open and silent.
func TestCancelEndsAReadThatBlocks(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := fmt.Fprint(w, "ts,close\n"+strings.Join(rows(6), "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	go cancel()
	result, _, err := run(ctx, t, &memory{}, func(c *load.Config[mds.Bar]) {
		c.Stdin, c.SymbolFromFile = r, false
		c.Options.Fixed["symbol"] = "A"
	}, "-")
	if !errors.Is(err, load.ErrInterrupted) || result.Ledger.Written != result.Ledger.Read {
		t.Errorf("%+v, %v", result.Ledger, err)
	}
}

func TestSymbolOf(t *testing.T) {
	for file, want := range map[string]string{
		"AAPL.csv": "AAPL", "/data/brk.b.csv.gz": "BRK.B", "x/1398.HK.CSV": "1398.HK", "EURUSD=X.txt.zst": "EURUSD=X", "spy": "SPY",
	} {
		if got := load.SymbolOf(file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}

// TestFailureEndsReading has handing over fail while standard input, or a named pipe,
// brings nothing.
func TestFailureEndsReading(t *testing.T) {
	named := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(named, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"-", named} {
		stdin, input, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		if name == named {
			_ = input.Close()
			// Open for reading and writing, it waits for nobody.
			if input, err = os.OpenFile(named, os.O_RDWR, 0); err != nil {
				t.Fatal(err)
			}
		}
		defer input.Close()
		if _, err := fmt.Fprintln(input, "symbol,ts,close\nA,"+strings.Join(rows(5), "\nA,")); err != nil {
			t.Fatal(err)
		}
		result, _, err := run(context.Background(), t, &memory{failAt: 1}, func(cfg *load.Config[mds.Bar]) {
			cfg.Stdin, cfg.SymbolFromFile = stdin, false
		}, name)
		if !errors.Is(err, errFull) || result.Ledger.Unwritten < 4 {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}

// waiting is an intake that takes nothing while the context it is given may end.
type waiting struct {
	began chan struct{}
	bars  []mds.Bar
}

func (w *waiting) Submit(ctx context.Context, bars ...mds.Bar) (r ingest.Receipt[mds.Bar], err error) {
	if ctx.Done() != nil {
		w.began <- struct{}{}
		<-ctx.Done()
		return r, ctx.Err()
	}
	w.bars = append(w.bars, bars...)
	return r, nil
}

// TestCancelWhileHandingOver loses nothing of what was read.
func TestCancelWhileHandingOver(t *testing.T) {
	lines := make([]string, 700)
	for i := range lines {
		lines[i] = fmt.Sprintf("2020-11-27T14:%02d:%02dZ,1", i/60, i%60)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiting{began: make(chan struct{})}
	go func() {
		<-w.began
		cancel()
	}()
	result, err := load.Run(ctx, load.Config[mds.Bar]{
		Files: []string{csvFile(t, "A.csv", lines...)}, Options: codec.Options{Fixed: map[string]string{"timeframe": "1s"}}, SymbolFromFile: true,
		Rejects: load.NewRejects(filepath.Join(t.TempDir(), "rejects")), Intake: w,
	})
	if !errors.Is(err, load.ErrInterrupted) || result.Ledger.Read < 1 || int64(len(w.bars)) != result.Ledger.Read {
		t.Errorf("%d read, %d handed over, %v", result.Ledger.Read, len(w.bars), err)
	}
}
